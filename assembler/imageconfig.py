"""The config and the annotations of the image: environment, labels, history, times.

Source: image-spec config.md and annotations.md.
"""

from __future__ import annotations

from datetime import datetime, timezone

from assembler import assembly, dockerfile, oci, tree
from assembler.oci import LayerBlob
from assembler.papers.lock import Lock
from assembler.recipe import Recipe
from assembler.view import View


def environment(recipe: Recipe, full: View, made: assembly.Assembly) -> dict[str, str]:
    """Return the environment that the stages set or keep of the full image's."""
    theirs = full.env()
    env: dict[str, str] = {}
    for stage in recipe.stages:
        inherit = tree.matcher(stage.env.inherit)
        env |= {key: value for key, value in theirs.items() if inherit.fullmatch(key)}
        for key in stage.env.paths:
            folders = [f for f in theirs.get(key, "").split(":") if f]
            there = [f for f in folders if made.rootfs.tree.resolve(f) is not None]
            if there:
                env[key] = ":".join(there)
        env |= stage.env.set
    return env


def labels(recipe: Recipe, full: View) -> dict[str, str]:
    """Return the labels of the full image that the stages keep, and the standard ones."""
    theirs = (full.config.get("config") or {}).get("Labels") or {}
    keep = tree.matcher([glob for stage in recipe.stages for glob in stage.labels])
    backends = ", ".join(stage.backend for stage in recipe.stages if stage.backend)
    version = full.env().get("TRITON_SERVER_VERSION", recipe.release)
    return {key: value for key, value in theirs.items() if keep.fullmatch(key)} | {
        "org.opencontainers.image.title": "Triton Inference Server, CPU only",
        "org.opencontainers.image.description": f"Release {recipe.release} with {backends}",
        "org.opencontainers.image.version": version,
    }


def manifest_annotations(inputs: Lock) -> dict[str, str]:
    """Return the manifest's annotations: image-spec annotations.md, and where the files are from.

    They depend on how the source was read, unless a lock says how; layers and config do not.
    """
    full, base = inputs.source, inputs.base
    found = {
        "org.opencontainers.image.created": _iso(inputs.mtime),
        "org.opencontainers.image.base.name": base.name,
        "io.github.triton-assembler.source.name": full.name,
        "io.github.triton-assembler.source.config": full.config,
    }
    if base.digest:
        found["org.opencontainers.image.base.digest"] = base.digest
    if full.digest:
        found["io.github.triton-assembler.source.digest"] = full.digest
    return found


def _iso(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def config(
    text: str,
    base: View,
    layers: list[LayerBlob],
    made: assembly.Assembly,
    recipe: Recipe,
) -> bytes:
    """Return the image config: the base's, continued by the filled-in Dockerfile and our layers.

    The base's own history and unknown keys stay as they are (image-spec config.md).
    """
    document = dockerfile.interpret(text, base.config)
    created = _iso(recipe.mtime)
    history = list(document.get("history") or [])
    history += [
        {"created": created, "created_by": f"assembler: stage {stage.stage.name}",
         "comment": stage.stage.summary}
        for stage in made.stages
    ]  # fmt: skip
    diff_ids = [*base.source.diff_ids, *(layer.diff_id for layer in layers)]
    document |= {
        "created": created,
        "history": history,
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
    }
    for key in ("container", "container_config", "docker_version", "id", "parent"):
        document.pop(key, None)  # facts of the build that made the base
    return oci.canonical(document)
