"""The main job: reference → source → view → assembly → image → destination."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from assembler import assembly, dockerfile, imageconfig, interrupts, oci, record
from assembler.destinations import Image
from assembler.destinations.files import check_output, made_beside
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
    if options.record is not None:
        check_output(options.record, over=True)
    with prepare(options, progress) as ready:
        image, reports, document = _image(options, progress, ready)
        progress.say(f"delivering {', '.join(ready.tags)}", level=1)
        text = json.dumps(document, indent=1, sort_keys=True, ensure_ascii=False) + "\n"
        with _record_at(options.record, text), _proof(options, image, document, ready, progress):
            destination.deliver(image, ready.tags)
            interrupts.finish()
        # `inspect` finds it there.
        ready.cache.put(f"records/{image.id.removeprefix('sha256:')}.json", text.encode())
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
) -> tuple[Image, list[dict[str, Any]], dict[str, Any]]:
    """Return the image with its layers on disk, the report of each stage, and the record."""
    reports: dict[str, dict[str, Any]] = {}

    def report(stage: assembly.Made, blob: LayerBlob) -> None:
        reports[stage.stage.name] = {
            "name": stage.stage.name,
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
    facts = {
        "release": recipe.release,
        "numpy": made.numpy,
        "patches": made.patches,
        "packages": made.packages,
    }
    nodes = (node for stage in made.stages for node in stage.nodes)
    document = record.document(nodes, ready.full.source, base, facts)
    direct = options.builder == "direct"
    image = Image(
        imageconfig.config(text, ready.base, layers, made, recipe) if direct else base.config,
        (*base.layers, *layers),
        options.platform,
        imageconfig.manifest_annotations(ready.full.source, base, recipe),
        (record.artifact(document),),
    )
    if not direct:
        from assembler.builder import build

        image = build(image, base, text, context, ready.scratch)
    return image, [reports[name] for name in names], document


def _proof(
    options: Options, image: Image, document: dict[str, Any], ready: Prepared, progress: Progress
) -> AbstractContextManager[None]:
    if not options.verify:
        return nullcontext()
    from assembler.verify.made import verified

    keep = options.output is None
    return verified(image, document, ready.scratch / "verify", progress.say, keep=keep)


@contextmanager
def _record_at(path: Path | None, text: str) -> Iterator[None]:
    """Write the record to `path`, where it appears when the block ends well."""
    if path is None:
        yield
        return
    with made_beside(path, folder=False, over=True) as temporary:
        temporary.write_text(text, "utf-8")
        yield
