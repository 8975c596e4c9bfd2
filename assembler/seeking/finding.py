"""Where seek indexes are kept: in the cache, by the image's digest; in files; in registries."""

from __future__ import annotations

import io
from pathlib import Path

from assembler import oci
from assembler.caching.cache import Cache
from assembler.errors import SourceError
from assembler.oci import Descriptor
from assembler.reference import ImageName
from assembler.registries.client import RegistryClient
from assembler.registries.uploads import Uploader
from assembler.seeking import index as seekindex
from assembler.seeking.index import SeekIndex
from assembler.sources import Source

TYPE = "application/vnd.triton-assembler.index.v1"
_LARGEST = 64 << 20  # bytes; the largest seen are a few MB


def of(source: Source, cache: Cache) -> SeekIndex | None:
    """Return the cached index of `source`, or None."""
    if not hasattr(source, "read_spans"):
        return None  # A file or an Engine: nothing is fetched.
    data = cache.get(_name(source))
    try:
        return seekindex.load(data, "the cached index") if data else None
    except SourceError:
        return None  # Of an older form.


def read(given: str, source: Source, client: RegistryClient) -> tuple[SeekIndex, bytes]:
    """Return the index in a file, or in a registry where there is no such file; and its bytes.

    Raises SourceError for what is no index, or one of another image.
    """
    if Path(given).exists() or given.startswith((".", "/")):
        try:
            data = Path(given).read_bytes()
        except OSError as error:
            raise SourceError(f"--index-from {given}: {error.strerror}") from None
    else:
        data = _pull(ImageName.parse(given.removeprefix("docker://")), client)
    index = seekindex.load(data, given)
    if not index.layers.keys() & set(source.digests):
        raise SourceError(
            f"--index-from {given} is of another image: it has no layer of {source.reference}"
        )
    return index, data


def _pull(name: ImageName, client: RegistryClient) -> bytes:
    found = client.get_manifest(name)
    document = oci.parse_object(found.raw, f"the manifest of {name}")
    layers = document.get("layers")
    if document.get("artifactType") != TYPE or not isinstance(layers, list) or len(layers) != 1:
        raise SourceError(f"--index-from {name} is no index (assembler index --push makes one)")
    descriptor = Descriptor.parse(layers[0], f"the index {name}")
    return client.get_blob(name, descriptor, f"the index {name}", _LARGEST)


def push(data: bytes, name: ImageName, client: RegistryClient) -> None:
    """Put the index file `data` into a registry. Raises RegistryError."""
    uploader = Uploader(client)
    described = Descriptor(seekindex.TYPE, oci.sha256(data), len(data))
    uploader.blob(name, described, lambda: io.BytesIO(data), what=f"the index {name}")
    uploader.document(name, name.reference, TYPE, [described.json()])


def keep(data: bytes, source: Source, cache: Cache) -> None:
    """Keep the index of `source`, as a file, in the cache."""
    cache.put(_name(source), data)


def forget(source: Source, cache: Cache) -> None:
    """Throw the cached index away: it was wrong."""
    cache.remove(_name(source))


def _name(source: Source) -> str:
    return f"indexes/{(source.digest or '').removeprefix('sha256:')}"
