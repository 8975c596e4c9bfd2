"""The main job: reference → source → view → assembly → image → destination."""

from __future__ import annotations

import threading
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any

from assembler import (
    assembly,
    dockerfile,
    documents,
    imageconfig,
    interrupts,
    locking,
    oci,
    record,
    sbom,
)
from assembler.destinations import Image
from assembler.destinations.files import check_output
from assembler.destinations.opening import check_tags, open_destination
from assembler.oci import LayerBlob
from assembler.options import Options
from assembler.preparation import Prepared, prepare
from assembler.progress import Progress


@dataclass(frozen=True)
class Result:
    """image: what was made. tags: familiar names. stages: name, digest, bytes, files of each."""

    image: Image
    tags: tuple[str, ...]
    stages: list[dict[str, Any]]
    base_size: int
    full_size: int
    bytes_read: int
    seconds: float
    dropped: dict[str, tuple[int, int]]

    def json(self) -> oci.Json:
        """Return the machine-readable result (design.md, "Commands")."""
        return {
            "image": {
                "id": self.image.id,
                "digest": self.image.digest,
                "tags": list(self.tags),
                "size": self.base_size + sum(stage["size"] for stage in self.stages),
            },
            "stages": self.stages,
            "bytes_read": self.bytes_read,
            "seconds": round(self.seconds, 3),
        }


def extract(options: Options, progress: Progress) -> Result:
    """Make the slim image and deliver it. Raises AssemblerError; then nothing was delivered."""
    check_tags(options.tags)
    destination = open_destination(options.output)
    documents.check(options.record)
    if options.lock is not None:
        check_output(options.lock, over=True)
    # An Engine has no place for documents beside an image, and making them costs time.
    beside = options.output is not None or options.record is not None
    if beside:
        threading.Thread(target=sbom.load, daemon=True).start()
    with prepare(options, progress) as ready:
        image, reports = _image(options, progress, ready)
        found = record.document(
            image, ready.assembly, ready.recipe, ready.inputs, ready.full.source, reports,
            ready.full.env(),
        )  # fmt: skip
        papers = documents.make(found, ready.tags[0]) if beside else {}
        image = replace(image, artifacts=documents.artifacts(papers))
        progress.say(f"delivering {', '.join(ready.tags)}", level=1)
        with ExitStack() as stack:
            stack.enter_context(documents.written(options.record, papers))
            if options.lock is not None:
                stack.enter_context(locking.written(ready.inputs, options.lock))
            destination.deliver(image, ready.tags)
            interrupts.finish()
        # `inspect` finds it there.
        ready.cache.put(f"records/{image.id.removeprefix('sha256:')}.json", record.text(found))
        return Result(
            image,
            ready.tags,
            reports,
            ready.base.size,
            ready.full.size,
            options.access.bytes_read,
            progress.seconds,
            ready.assembly.dropped,
        )


def _image(
    options: Options, progress: Progress, ready: Prepared
) -> tuple[Image, list[dict[str, Any]]]:
    """Return the image with its layers on disk, and the report of each stage."""
    reports: dict[str, dict[str, Any]] = {}

    def report(stage: assembly.Made, blob: LayerBlob) -> None:
        reports[stage.stage.name] = {
            "name": stage.stage.name,
            "summary": stage.stage.summary,
            "diff_id": blob.diff_id,
            "digest": blob.descriptor.digest,
            "size": stage.size,
            "compressed": blob.descriptor.size,
            "files": sum(node.kind != "dir" for node in stage.nodes),
        }
        progress.say(f"layer {stage.stage.name}: {len(stage.nodes)} paths", level=1)

    made, recipe, base = ready.assembly, ready.recipe, ready.base_blobs
    # The Engine would have to inflate again what is compressed here.
    compress = options.output is not None
    layers = assembly.write_layers(
        made, recipe.mtime, ready.scratch / "layers", report, compress=compress
    )
    names = [stage.stage.name for stage in made.stages]
    context = {f"layers/{n}.tar": layer for n, layer in zip(names, layers, strict=True)}
    text = dockerfile.fill(
        ready.template,
        context,
        imageconfig.environment(recipe, ready.full, made),
        imageconfig.labels(recipe, ready.full),
    )
    direct = options.builder == "direct"
    image = Image(
        imageconfig.config(text, ready.base, layers, made, recipe) if direct else base.config,
        (*base.layers, *layers),
        options.platform,
        imageconfig.manifest_annotations(ready.inputs),
    )
    if not direct:
        from assembler.builder import build

        image = build(image, base, text, context, ready.scratch)
    return image, [reports[name] for name in names]
