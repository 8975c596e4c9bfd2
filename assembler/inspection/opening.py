"""From the IMAGE of the command line to a view of it, and to its record."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from assembler import components, documents, oci, record
from assembler.cache import Cache
from assembler.errors import AssemblerError, SourceError, UsageError
from assembler.oci import Platform
from assembler.record import Record
from assembler.reference import FILE_TRANSPORTS, TRANSPORTS, Reference
from assembler.sources import Source
from assembler.sources.members import DOCUMENT, FolderMembers, Members, TarMembers
from assembler.sources.opening import Access
from assembler.tree import matcher
from assembler.view import View

_kept = matcher(components.FILES).fullmatch


@contextmanager
def opened(text: str, platform: Platform, access: Access) -> Iterator[tuple[Reference, Source]]:
    """Yield the image that `text` names; of a file or folder its path is enough.

    A name with no transport is first asked of the Engine, then of its registry. Raises
    SourceError and UsageError.
    """
    with ExitStack() as stack:
        if text.partition(":")[0] in TRANSPORTS:
            reference = Reference.parse(text)
            yield reference, stack.enter_context(access.open(reference, platform))
            return
        path = Path(text)
        named = text.startswith(("/", "./", "../")) or path.suffix == ".tar"
        if named or (path / "oci-layout").is_file():
            kind = "oci" if path.is_dir() else "docker-archive"
            reference = Reference(kind, path=text)
            yield reference, stack.enter_context(access.open(reference, platform))
            return
        reference = Reference.parse(f"docker-daemon:{text}")
        try:
            source = stack.enter_context(access.open(reference, platform))
        except AssemblerError as error:
            if access.offline:
                raise
            reference = Reference.parse(text)
            try:
                source = stack.enter_context(access.open(reference, platform))
            except AssemblerError as other:
                raise SourceError(f"{other}; and {error}") from None
        yield reference, source


def read(source: Source, folder: Path) -> View:
    """Return the view of an image, with the content of what tells of its components."""
    return View.of(source, folder, lambda path: bool(_kept(path)))


def find_record(
    given: Path | None, reference: Reference, view: View, cache: Cache
) -> tuple[Record | None, str]:
    """Return an image's record and where it was: given, in the archive or layout, in the cache.

    The record of an image that this one is built on serves as well. Raises UsageError where the
    one that is given is of another image, or none.
    """
    if given is not None:
        path = given / documents.RECORD if given.is_dir() else given
        found = record.parse(_bytes(path))
        if found is None:
            raise UsageError(f"--record {given}: {path} is no record of an image")
        if not fits(found, view):
            raise UsageError(
                f"--record {given}: it is the record of another image, {found['image']['id']}"
            )
        return found, str(path)
    for data in _beside(reference):
        found = record.parse(data)
        if found and fits(found, view):
            return found, str(reference)
    own = oci.sha256(view.source.config).removeprefix("sha256:")
    others = [p for p in cache.find("records/*.json") if p.stem != own]
    for path in [*cache.find(f"records/{own}.json"), *others]:
        found = record.parse(_bytes(path))
        if found and fits(found, view):
            return found, str(path)
    return None, ""


def fits(known: Record, view: View) -> bool:
    """Tell whether a record is of this image, or of one that it is built on."""
    layers = {layer["diff_id"] for layer in known["layers"]}
    return layers <= set(view.source.diff_ids)


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UsageError(f"the record {path} cannot be read: {error.strerror}") from None


def _beside(reference: Reference) -> Iterator[bytes]:
    """Yield the records that an archive or layout holds; index.json need not list them."""
    if reference.transport not in FILE_TRANSPORTS:
        return
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
