"""The record: for each path of the image, where it came from, which stage took it and why.

It travels beside the image (an OCI artifact that refers to it), so that the image's own layers do
not depend on how the source was read.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from assembler import __version__
from assembler.assembly import Assembly
from assembler.destinations import Image
from assembler.papers import components
from assembler.papers.lock import Lock
from assembler.recipe import Recipe
from assembler.rootfs import Node
from assembler.sources import Source

TYPE = "application/vnd.triton-assembler.record.v1+json"
OURS = "assembler"

Record = dict[str, Any]


def document(
    image: Image,
    made: Assembly,
    recipe: Recipe,
    inputs: Lock,
    full: Source,
    layers: list[dict[str, Any]],
    env: dict[str, str],
) -> Record:
    """Return the record as a JSON document.

    layers: what was made of each stage. env: of the full image. A file's `origin` is a key of
    `origins`, which says what image, layer or wheel that is.
    """
    nodes = sorted((n for stage in made.stages for n in stage.nodes), key=lambda each: each.path)
    return {
        "assembler": __version__,
        "image": {"id": image.id, "digest": image.digest},
        "release": recipe.release,
        "source": vars(inputs.source),
        "base": vars(inputs.base),
        "inputs": inputs.document(),
        "numpy": made.numpy,
        "patches": made.patches,
        "packages": made.packages,
        "layers": layers,
        "drops": _drops(recipe),
        "dropped": {
            reason: {"files": count, "size": size} for reason, (count, size) in made.dropped.items()
        },
        "components": components.find(made.rootfs.tree, made.rootfs.content, env),
        "origins": _origins(nodes, made, inputs, full),
        "files": {f"/{node.path}": _entry(node) for node in nodes},
    }


def _entry(node: Node) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "kind": node.kind,
        "origin": node.origin or OURS,
        "reason": node.reason,
        "stage": node.stage,
    }
    if node.content is not None:
        entry |= {"sha256": node.content.sha256, "size": node.content.size}
    if node.kind == "symlink":
        entry["target"] = node.link
    if node.source_path not in ("", node.path):
        entry["source_path"] = f"/{node.source_path}"
    if node.original:
        entry["original"] = node.original
    return entry


def _origins(
    nodes: Iterable[Node], made: Assembly, inputs: Lock, full: Source
) -> dict[str, dict[str, str]]:
    wheels = {pin.file: pin for pin in made.wheels.values()}
    stored = dict(zip(full.diff_ids, full.digests, strict=True))
    image = inputs.source.digest or inputs.source.config
    found: dict[str, dict[str, str]] = {}
    for origin in sorted({node.origin or OURS for node in nodes}):
        if origin in wheels:
            found[origin] = {"kind": "wheel", "sha256": wheels[origin].sha256}
        elif origin == OURS:
            found[origin] = {"kind": OURS, "version": __version__}
        else:
            found[origin] = {"kind": "layer", "image": image, "diff_id": origin}
            if digest := stored.get(origin):
                found[origin]["digest"] = digest
    return found


def _drops(recipe: Recipe) -> list[dict[str, Any]]:
    """What stays out, and why: the rules in force."""
    return [
        {
            "stage": stage.name,
            "reason": drop.reason,
            "paths": list(drop.paths),
            "but": list(drop.but),
            "keep": drop.keep,
        }
        for stage in recipe.stages
        for drop in stage.drop
        if not drop.keep or drop.keep not in recipe.keep
    ]


def text(record: Record) -> bytes:
    """Return the record as it is written to a file and into the cache."""
    # Without indentation, or Python's slow encoder takes a tenth of a second for it.
    return (json.dumps(record, sort_keys=True, ensure_ascii=False) + "\n").encode()


def parse(data: bytes) -> Record | None:
    """Return the record in `data`, or None for what is none: whoever wrote it, its parts are there
    and of the right kind.
    """
    try:
        found = json.loads(data)
        texts = [*(found[key][part] for key in ("source", "base")
                   for part in ("name", "config", "digest")),
                 *found["image"].values(), found["release"], found["image"]["id"]]  # fmt: skip
        for layer in found["layers"]:
            texts += [layer["name"], layer["summary"], layer["diff_id"]]
        for rule in found["drops"]:
            texts += [rule["stage"], rule["reason"], rule["keep"], *rule["paths"], *rule["but"]]
        for origin in found["origins"].values():
            texts += origin.values()
            texts.append(origin["sha256"] if origin["kind"] == "wheel" else origin["kind"])
        for path, entry in found["files"].items():
            needed = {"file": "sha256", "symlink": "target"}.get(entry["kind"], "kind")
            texts += [entry[needed], entry["reason"], entry["stage"]]
            texts += [entry.get("source_path", "/"), entry.get("original", ""), entry["origin"]]
            texts.append(found["origins"][entry["origin"]]["kind"] if path[:1] == "/" else None)
        counts = [each[key] for each in found["dropped"].values() for key in ("files", "size")]
        fine = all(isinstance(each, str) for each in [*texts, *found["patches"]])
        return found if fine and all(isinstance(each, int) for each in counts) else None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
