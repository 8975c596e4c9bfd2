"""The record of an image, and whether the image's files are what it says."""

from __future__ import annotations

from typing import Any

from assembler.verify.checks import Skipped, require
from assembler.verify.files import Files


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
