"""Where the record of an image is found: beside it, in the cache, or in a file that is given."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from assembler import oci
from assembler.caching.cache import Cache
from assembler.errors import SourceError, UsageError
from assembler.papers import documents, record
from assembler.papers.record import Record
from assembler.reference import FILE_TRANSPORTS, ImageName, Reference
from assembler.sources import Source
from assembler.sources.members import DOCUMENT, FolderMembers, Members, TarMembers
from assembler.sources.opening import Access


def find(
    given: Path | None,
    reference: Reference,
    source: Source,
    access: Access,
    cache: Cache,
    *,
    derived: bool,
) -> tuple[Record | None, str]:
    """Return an image's record and where it was: given, beside the image, in the cache.

    derived: whether the record of an image that this one is built on serves as well. Raises
    UsageError where the one that is given is of another image, or none.
    """

    def fits(found: Record) -> bool:
        if not derived:
            ids = {oci.sha256(source.config), getattr(source, "id", ""), source.digest}
            return not ids.isdisjoint(found["image"].values())
        return {layer["diff_id"] for layer in found["layers"]} <= set(source.diff_ids)

    if given is not None:
        path = given / documents.RECORD if given.is_dir() else given
        found = record.parse(_bytes(path))
        if found is None:
            raise UsageError(f"--record {given}: {path} is no record of an image")
        if derived and not fits(found):
            raise UsageError(
                f"--record {given}: it is the record of another image, {found['image']['id']}"
            )
        return found, str(path)
    for data, where in _candidates(reference, source, access, cache):
        found = record.parse(data)
        if found and fits(found):
            return found, where
    return None, ""


def _candidates(
    reference: Reference, source: Source, access: Access, cache: Cache
) -> Iterator[tuple[bytes, str]]:
    if reference.transport in FILE_TRANSPORTS:
        for data in _in_file(reference):
            yield data, str(reference)
    elif reference.is_remote and reference.name is not None and source.digest:
        for data in _in_registry(reference.name, source.digest, access):
            yield data, str(reference)
    own = oci.sha256(source.config).removeprefix("sha256:")
    # All of them: of an Engine's image the exact config, and so this name, may not be known.
    for path in sorted(cache.find("records/*.json"), key=lambda each: each.stem != own):
        yield _bytes(path), str(path)


def _in_file(reference: Reference) -> Iterator[bytes]:
    """Yield the records that an archive or layout holds; index.json need not list them."""
    path, where = Path(reference.path), f"{reference.transport}:{reference.path}"
    members: Members
    members = FolderMembers(path, where) if path.is_dir() else TarMembers(path, where)
    for name in members.names("blobs/sha256/"):
        if members.size(name) > 1 << 16:
            continue
        try:
            manifest = json.loads(members.document(name))
            if manifest["artifactType"] != record.TYPE:
                continue
            digest = manifest["layers"][0]["digest"]
        except (ValueError, KeyError, TypeError, IndexError):
            continue
        blob = f"blobs/{digest.replace(':', '/')}"
        if members.has(blob) and members.size(blob) <= DOCUMENT:
            data = members.document(blob)
            if oci.sha256(data) == digest:
                yield data


def _in_registry(name: ImageName, digest: str, access: Access) -> Iterator[bytes]:
    """Yield the records that refer to the image in its registry; none where that cannot be read."""
    from assembler.registries import referrers

    try:
        for each in referrers.listed(access.client, name, digest, record.TYPE):
            found = access.client.get_manifest(name, each.descriptor.digest)
            manifest = oci.Manifest.parse(found.raw, f"a record of {name}")
            for layer in manifest.layers[:1]:
                yield access.client.get_blob(name, layer, f"a record of {name}")
    except SourceError:
        return


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UsageError(f"the record {path} cannot be read: {error.strerror}") from None
