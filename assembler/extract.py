"""The main job: reference → source → view → assembly → image → destination."""

from __future__ import annotations

from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, replace
from typing import Any

from assembler import assembly, dockerfile, imageconfig, interrupts, oci
from assembler.caching import results
from assembler.caching.results import Finished
from assembler.destinations import Image
from assembler.destinations.files import check_apart, check_output
from assembler.destinations.opening import (
    Destination,
    check_push,
    check_tags,
    open_destination,
    open_pushing,
)
from assembler.errors import SourceError, UsageError
from assembler.oci import LayerBlob
from assembler.options import Options
from assembler.papers import documents, lock, locking, record
from assembler.preparation import Inputs, Prepared, opened, prepare
from assembler.progress import Progress
from assembler.reference import ImageName


@dataclass(frozen=True)
class Result:
    """finished: what was made. tags: familiar names. pushed: names in registries.

    bytes_read: of images, from anywhere.
    """

    finished: Finished
    tags: tuple[str, ...]
    pushed: tuple[str, ...]
    bytes_read: int
    seconds: float

    @property
    def size(self) -> int:
        """Bytes of the image's files, the base's included."""
        stages = self.finished.stages
        return self.finished.base_size + sum(int(stage["size"]) for stage in stages)

    def json(self) -> oci.Json:
        """Return the machine-readable result (design.md, "Commands")."""
        image = self.finished.image
        pushed = [{"reference": name, "digest": image.digest} for name in self.pushed]
        seconds = self.finished.seconds
        return {
            "image": {
                "id": image.id,
                "digest": image.digest,
                "tags": list(self.tags),
                "size": self.size,
            },
            "stages": [
                {**stage, "seconds": round(seconds.get(stage["name"], 0.0), 3)}
                for stage in self.finished.stages
            ],
            "bytes_read": self.bytes_read,
            "seconds": round(self.seconds, 3),
        } | ({"pushed": pushed} if pushed else {})


def extract(options: Options, progress: Progress) -> Result:
    """Make the slim image and deliver it. Raises AssemblerError; then nothing was delivered."""
    check_tags(options.tags)
    check_apart({"--output": options.output, "--lock": options.lock, "--record": options.record})
    pushes = check_push(options.push, offline=options.access.offline)
    # What is pushed and has no other name or place asked for is not wanted here as well.
    is_local = bool(not pushes or options.output or options.tags)
    local = open_destination(options.output) if is_local else None
    destination = local
    if pushes:
        destination = open_pushing(
            pushes, options.access.client, local,
            multi_platform=options.multi_platform, tagging=len(options.platforms) < 2,
        )  # fmt: skip
    elif options.multi_platform:
        raise UsageError("--multi-platform is for --push: it is the tag there that has several")
    assert destination is not None
    documents.check(options.record)
    if options.lock is not None:
        check_output(options.lock, over=True)
    with opened(options, progress) as inputs:
        finished = _known(inputs, destination, progress) or _made(inputs, progress)
        for repository in options.cache_to:
            _share(inputs, repository, progress)
        papers = documents.make(finished.record, inputs.tags[0]) if options.papers else {}
        image = replace(finished.image, artifacts=documents.artifacts(papers))
        tags, pushed = inputs.tags if is_local else (), tuple(map(str, pushes))
        progress.say(f"delivering {', '.join((*tags, *pushed))}", level=1)
        with ExitStack() as stack:
            stack.enter_context(documents.written(options.record, papers))
            if options.lock is not None:
                found = lock.parse(finished.record["inputs"])
                stack.enter_context(locking.written(found, options.lock))
            if options.verify:
                stack.enter_context(_verified(inputs, replace(finished, image=image), progress))
            destination.deliver(image, tags)
            interrupts.finish()
        # `inspect` finds it there.
        name = f"records/{image.id.removeprefix('sha256:')}.json"
        inputs.cache.put(name, record.text(finished.record), sealed=False)
        results.keep(inputs, finished)
        inputs.cache.prune()
        return Result(finished, tags, pushed, options.access.bytes_read, progress.seconds)


def _verified(
    inputs: Inputs, finished: Finished, progress: Progress
) -> AbstractContextManager[None]:
    """Prove that the image serves, before it gets its name."""
    from assembler.verify.made import verified

    folder, keep = inputs.scratch / "verify", inputs.options.into_engine
    return verified(finished.image, finished.record, folder, progress.say, keep=keep)


def _share(inputs: Inputs, repository: ImageName, progress: Progress) -> None:
    """Put what is known of the full image's layers into a registry; at worst a warning."""
    try:
        inputs.remote_cache(repository).store(inputs.full)
    except SourceError as error:
        progress.warn(f"--cache-to is not done: {error}")


def _known(inputs: Inputs, destination: Destination, progress: Progress) -> Finished | None:
    """Return what an earlier run made of the same inputs, if it can be delivered as it is."""
    found = results.find(inputs)
    if found is None:
        return None
    if not inputs.options.verify and destination.has(found.image):
        progress.say("nothing has changed since it was made, and it is there")
        return found
    image = results.with_layers(found.image, inputs.cache, inputs.scratch / "known")
    if image is None:
        return None
    progress.say("nothing has changed since it was made: taken from the cache")
    return replace(found, image=image)


def _made(inputs: Inputs, progress: Progress) -> Finished:
    """Return the image made anew, with its layers."""
    return finish(prepare(inputs, progress), progress)


def finish(ready: Prepared, progress: Progress) -> Finished:
    """Return the image of what is prepared, with its layers, in the run's scratch folder."""
    inputs = ready.inputs
    reports: dict[str, dict[str, Any]] = {}
    taken: dict[str, float] = {}

    def report(stage: assembly.Made, blob: LayerBlob, seconds: float) -> None:
        taken[stage.stage.name] = seconds
        reports[stage.stage.name] = {
            "name": stage.stage.name,
            "summary": stage.stage.summary,
            "diff_id": blob.diff_id,
            "digest": blob.descriptor.digest,
            "size": stage.size,
            "compressed": blob.descriptor.size,
            "files": stage.files,
        }
        progress.say(f"layer {stage.stage.name}: {len(stage.nodes)} paths", level=1)

    made, recipe, base, options = ready.assembly, inputs.recipe, ready.base_blobs, inputs.options
    # The Engine would have to inflate again what is compressed here.
    layers = assembly.write_layers(
        made, recipe.mtime, inputs.scratch / "layers", report, inputs.cache,
        compress=options.compress,
    )  # fmt: skip
    names = [stage.stage.name for stage in made.stages]
    context = {f"layers/{n}.tar": layer for n, layer in zip(names, layers, strict=True)}
    text = dockerfile.fill(
        inputs.template,
        context,
        imageconfig.environment(recipe, ready.full, made),
        imageconfig.labels(recipe, ready.full),
    )
    direct = options.builder == "direct"
    image = Image(
        imageconfig.config(text, ready.base, layers, made, recipe) if direct else base.config,
        (*base.layers, *layers),
        options.platform,
        imageconfig.manifest_annotations(ready.lock),
    )
    if not direct:
        from assembler.builder import build

        image = build(image, base, text, context, inputs.scratch)
    stages = [reports[name] for name in names]
    found = record.document(
        image, made, recipe, ready.lock, ready.full.source, stages, ready.full.env()
    )
    return Finished(image, stages, ready.base.size, ready.full.size, found, taken)
