"""The record of an image, and whether the image's files are what it says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from assembler import oci, record
from assembler.errors import SourceError, UsageError
from assembler.reference import FILE_TRANSPORTS, Reference
from assembler.sources import Source
from assembler.sources.layout import blob
from assembler.sources.members import FolderMembers, Members, TarMembers
from assembler.verify.checks import Skipped, require
from assembler.verify.files import Files


def find(given: Path | None, source: Source, reference: Reference, cache: Path | None) -> Any:
    """Return the record of an image: the file `given`, the artifact that lies beside the image,
    or what `extract` left in the cache. None where there is none.

    Raises UsageError for a file that is none.
    """
    if given is not None:
        try:
            return _parse(given.read_bytes(), str(given))
        except OSError as error:
            raise UsageError(f"--record {given} cannot be read: {error.strerror}") from None
    if reference.transport in FILE_TRANSPORTS:
        found = _beside(reference, source)
        if found is not None:
            return found
    for digest in (getattr(source, "id", ""), oci.sha256(source.config)):
        path = cache / "records" / f"{digest.removeprefix('sha256:')}.json" if cache else None
        if path is not None and digest and path.is_file():
            return _parse(path.read_bytes(), str(path))
    return None


def _parse(data: bytes, where: str) -> Any:
    try:
        document = json.loads(data)
        entries = document["files"].values()
        if all(isinstance(entry["kind"], str) for entry in entries):
            return document
    except (ValueError, KeyError, TypeError, AttributeError):
        pass
    raise UsageError(f"{where} is no record of an image (extract --record FILE writes one)")


def _beside(reference: Reference, source: Source) -> Any:
    """Return the record among the blobs of a layout: what refers to this image as its subject."""
    path, where = Path(reference.path), str(reference)
    members: Members
    members = FolderMembers(path, where) if path.is_dir() else TarMembers(path, where)
    if not members.has("index.json"):
        return None
    index = oci.parse_object(members.document("index.json"), f"the index.json of {where}")
    for entry in index.get("manifests") or ():
        if not isinstance(entry, dict) or entry.get("artifactType") != record.TYPE:
            continue
        try:
            descriptor = oci.Descriptor.parse(entry, f"an entry of the index of {where}")
            raw = blob(members, descriptor, "record's manifest")
            manifest = oci.Manifest.parse(raw, where)
        except SourceError:
            continue  # A record that is damaged is none; the image itself may be whole.
        subject = json.loads(raw).get("subject") or {}
        if subject.get("digest") == source.digest:
            return _parse(blob(members, manifest.layers[0], "record"), where)
    return None


def recorded(document: Any) -> set[str]:
    """Return the paths whose bytes a record knows."""
    files = document["files"] if document else {}
    return {path.lstrip("/") for path, entry in files.items() if "sha256" in entry}


def check(files: Files, document: Any) -> str:
    """Each path of the record is there, of its kind, with its bytes or its target."""
    if document is None:
        raise Skipped("no record of this image: neither in it, nor in the cache (--record FILE)")
    problems = []
    for path, entry in sorted(document["files"].items()):
        there = files.tree.get(files.tree.physical(path) or "-")
        if there is None:
            problems.append(f"{path} is in the record, but not in the image")
        elif there.kind != entry["kind"]:
            problems.append(f"{path} is a {there.kind}, in the record a {entry['kind']}")
        elif entry["kind"] == "symlink" and there.link != entry.get("target"):
            problems.append(f"{path} leads to {there.link}, in the record to {entry.get('target')}")
        elif "sha256" in entry:
            real = files.tree.physical(path)
            assert real is not None
            if files.content(real).sha256 != entry["sha256"]:
                problems.append(f"{path} has other bytes than the record says")
    return require(problems, f"{len(document['files'])} paths are as the record says")
