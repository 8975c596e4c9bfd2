"""The near side: from runs to the members of a bundle."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from assembler import oci
from assembler.bundle.parts import BundleError
from assembler.caching.layercache import LayerCache, document
from assembler.layerfile import Gzip, in_pieces
from assembler.layers import Content
from assembler.papers import lock, record
from assembler.papers.record import Record
from assembler.preparation import Prepared
from assembler.sources import Source
from assembler.sources.blobs import BlobSource
from assembler.streams import CHUNK


class Members:
    """Files by their sha256, in `folder`; what is there already is not written again."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.files: dict[str, Path] = {}  # by member name, in the order to write them
        self._contents: dict[str, tuple[str, int]] = {}  # by sha256: which pack has it, and where

    def add(self, data: bytes) -> str:
        """Add bytes as they are; return their sha256 (hex)."""
        return self._add([data])

    def add_json(self, found: object) -> str:
        """Add a JSON document, compressed; return the sha256 of the member."""
        return self.add_compressed([oci.canonical(found)])

    def add_compressed(self, pieces: Iterable[bytes]) -> str:
        """Add bytes as gzip: the same for the same bytes, with the same version of isal."""
        temporary = self._folder / "writing"
        with temporary.open("wb") as file:
            out = Gzip(file)
            for piece in in_pieces(pieces):
                out.write(piece)
            return self._name(temporary, out.finish())

    def add_file(self, path: Path) -> str:
        """Add a file as it is."""
        with path.open("rb") as file:
            return self._add(iter(lambda: file.read(CHUNK), b""))

    def _add(self, pieces: Iterable[bytes]) -> str:
        temporary, digest = self._folder / "writing", hashlib.sha256()
        with temporary.open("wb") as file:
            for piece in pieces:
                digest.update(piece)
                file.write(piece)
        return self._name(temporary, digest.hexdigest())

    def _name(self, temporary: Path, sha256: str) -> str:
        path = self._folder / sha256
        temporary.replace(path)
        self.files[f"sha256/{sha256}"] = path
        return sha256

    def pack(self, contents: Mapping[str, Content]) -> str:
        """Add the bytes of files by name; return the member that says where each one lies.

        A file that an earlier pack has is not packed again, whatever layer it is of.
        """
        new: dict[str, Content] = {}
        places: dict[str, int] = {}
        end = 0
        for _, content in sorted(contents.items()):
            if content.sha256 not in self._contents and content.sha256 not in new:
                new[content.sha256], places[content.sha256] = content, end
                end += content.size
        if new:
            pack = self.add_compressed(_bytes(new.values()))
            self._contents |= {sha256: (pack, at) for sha256, at in places.items()}
        return self.add_json(
            {
                name: [*self._contents[content.sha256], content.size, content.sha256]
                for name, content in contents.items()
            }
        )


def _bytes(contents: Iterable[Content]) -> Iterator[bytes]:
    for content in contents:
        left = content.size
        with content.open() as file:
            while left and (data := file.read(min(CHUNK, left))):
                left -= len(data)
                yield data


def add(members: Members, ready: Prepared, made: Record) -> dict[str, Any]:
    """Add all that one image needs, and return what the index says of it.

    ready: what was used of it. made: the record of the image.
    """
    inputs, known = ready.inputs, ready.lock
    used: dict[int, dict[str, Content]] = defaultdict(dict)
    for (number, name), content in ready.full.used.items():
        used[number][name] = content
    cache = LayerCache(inputs.cache, inputs.scratch / "listings")
    layers = []
    for number, (diff_id, digest) in enumerate(
        zip(inputs.full.diff_ids, inputs.full.digests, strict=True)
    ):
        layer = cache.listing(diff_id, digest)
        if layer is None:
            raise BundleError("what was read was not kept: choose a --cache-dir that can be used")
        layers.append([members.add_json(document(layer)), members.pack(used[number])])
    options = inputs.options
    texts = {f"stages/{name}": path for name, path in _stages(ready).items()}
    texts |= {
        name: options.resource("patches") / name.partition("/")[2]
        for name in known.files if name.startswith("patches/")
    }  # fmt: skip
    return {
        "release": known.release,
        "backends": list(known.backends),
        "platform": known.platform,
        "image": made["image"],
        "lock": members.add(lock.render(known).encode()),
        "record": members.add_compressed([record.text(made)]),
        "source": _image(members, inputs.full) | {"layers": layers},
        "base": _image(members, inputs.base) | {"blobs": _blobs(members, ready.base_blobs)},
        "wheels": {pin.file: _wheel(members, ready, pin.file) for pin in known.wheels.values()},
        "files": {name: members.add_file(path) for name, path in sorted(texts.items())}
        | {"Dockerfile.final": members.add(inputs.template.encode())},
    }


def _stages(ready: Prepared) -> dict[str, Path]:
    from assembler import stages

    options = ready.inputs.options
    known = stages.files([options.resource("stages"), *options.stages])
    return {f"{stage.name}.toml": known[stage.name] for stage in ready.inputs.recipe.stages}


def _wheel(members: Members, ready: Prepared, name: str) -> str:
    for path in (ready.inputs.scratch / name, *ready.inputs.cache.find(f"wheels/{name}")):
        if path.is_file():
            return members.add_file(path)
    raise BundleError(f"{name} is gone from the cache: run this again")


def _image(members: Members, source: Source) -> dict[str, Any]:
    manifest = getattr(source, "manifest", None)
    return {
        "reference": source.reference,
        "digest": source.digest,
        "manifest": members.add(manifest.raw) if manifest else None,
        "config": members.add(source.config),
        "sizes": list(source.sizes),
        "digests": list(source.digests),
    }


def _blobs(members: Members, base: BlobSource) -> list[list[Any]]:
    """Add the base's layers as they are stored, but plain ones (an Engine's) compressed."""
    found = []
    for layer in base.layers:
        path = layer.path
        assert path is not None
        plain = layer.descriptor.media_type == oci.OCI_LAYER
        with path.open("rb") as file:
            pieces = iter(lambda: file.read(CHUNK), b"")
            member = members.add_compressed(pieces) if plain else members.add_file(path)
        found.append([layer.descriptor.digest, layer.descriptor.size, member, plain])
    return found
