"""The record: for each path of the image, where it came from, which stage took it and why.

It travels beside the image (an OCI artifact that refers to it), so that the image's own layers do
not depend on how the source was read.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from assembler import __version__, oci
from assembler.destinations import Artifact
from assembler.rootfs import Node
from assembler.sources import Source

TYPE = "application/vnd.triton-assembler.record.v1+json"


def document(
    nodes: Iterable[Node],
    full: Source,
    base: Source,
    facts: dict[str, Any],
) -> dict[str, Any]:
    """Return the record as a JSON document. facts: release, pins, patches and the like."""
    files: dict[str, Any] = {}
    for node in sorted(nodes, key=lambda each: each.path):
        entry: dict[str, Any] = {
            "kind": node.kind,
            "origin": node.origin,
            "reason": node.reason,
            "stage": node.stage,
        }
        if node.content is not None:
            entry["sha256"] = node.content.sha256
            entry["size"] = node.content.size
        if node.kind == "symlink":
            entry["target"] = node.link
        files[f"/{node.path}"] = entry
    return {
        "assembler": __version__,
        "source": {
            "reference": full.reference,
            "digest": full.digest,
            "config": oci.sha256(full.config),
        },
        "base": {
            "reference": base.reference,
            "digest": base.digest,
            "config": oci.sha256(base.config),
        },
        **facts,
        "files": files,
    }


def artifact(record: dict[str, Any]) -> Artifact:
    """Return the record as what a destination puts beside an image."""
    return Artifact(TYPE, TYPE, oci.canonical(record))
