"""The main job: reference → source → view → assembly → image → destination."""

from __future__ import annotations

import json
import os
import re
import tempfile
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from assembler import (
    assembly,
    dockerfile,
    dpkg,
    oci,
    patches,
    record,
    releases,
    resources,
    selection,
    stages,
    tree,
)
from assembler.destinations import Image, LayerBlob
from assembler.destinations.opening import Destination, check_tags, open_destination
from assembler.errors import UsageError
from assembler.progress import Progress
from assembler.reference import Reference
from assembler.sources import Source
from assembler.sources.blobs import BlobSource
from assembler.sources.opening import Access
from assembler.view import View


@dataclass(frozen=True)
class Options:
    """What the command line says; README and --help tell what each means."""

    release: str | None = None
    backends: tuple[str, ...] = ("onnxruntime", "python")
    source: str | None = None
    base: str | None = None
    tags: tuple[str, ...] = ()
    output: Path | None = None
    numpy: str | None = None
    platform: oci.Platform = field(default_factory=lambda: oci.Platform("linux", "amd64"))
    builder: str = "direct"
    keep: tuple[str, ...] = ()
    stages: tuple[Path, ...] = ()
    dockerfile: Path | None = None
    cache: Path | None = None
    record: Path | None = None
    access: Access = field(default_factory=Access)


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
    backends = list(dict.fromkeys(options.backends))
    release = releases.check(options.release or releases.DEFAULT)
    template = _read_text(options.dockerfile or resources.path("Dockerfile.final"))
    if options.builder == "direct":
        # What it cannot carry out is said now, not after the reading.
        dockerfile.interpret(dockerfile.fill(template, (), {}, {}), {})
    known_stages = stages.load([resources.path("stages"), *options.stages])
    known_patches = patches.load(resources.path("patches"))
    stages.choose(known_stages, backends, release, list(options.keep))
    reference = Reference.parse(options.source or releases.default_source(release))
    check_tags(options.tags)
    destination = open_destination(options.output)
    access = options.access
    with (
        tempfile.TemporaryDirectory(prefix="assembler-", ignore_cleanup_errors=True) as scratch,
        access.open(reference, options.platform) as full,
    ):
        release = _release(full, release, options)
        base = Reference.parse(options.base or releases.default_base(release))
        recipe = assembly.Recipe(
            release,
            stages.choose(known_stages, backends, release, list(options.keep)),
            list(options.keep),
            known_patches,
            options.numpy,
            (options.cache or Path(scratch)) / "wheels",
            access.offline,
            _mtime(full),
        )
        tags = options.tags or (f"tritonserver:{release}-{'-'.join(backends)}-cpu",)
        with access.open(base, options.platform) as remote:
            return _make(
                options, progress, recipe, template, full, remote, Path(scratch), destination, tags
            )


def _make(
    options: Options,
    progress: Progress,
    recipe: assembly.Recipe,
    template: str,
    full: Source,
    remote_base: Source,
    scratch: Path,
    destination: Destination,
    tags: tuple[str, ...],
) -> Result:
    with progress.reading(f"base {remote_base.reference}", sum(remote_base.sizes)):
        base = BlobSource(remote_base, scratch / "base")
        base_view = View(base, _folder(scratch / "base-files"), _base_likely)
    with progress.reading(full.reference, sum(full.sizes)) as advance:
        options.access.on_bytes = advance
        try:
            full_view = View(
                full, _folder(scratch / "full-files"), selection.likely(recipe.stages, recipe.keep)
            )
        finally:
            options.access.on_bytes = None
    made = assembly.assemble(recipe, full_view, base_view, scratch)
    reports: list[dict[str, Any]] = []

    def report(stage: assembly.Made, blob: LayerBlob) -> None:
        reports.append(
            {
                "name": stage.stage.name,
                "digest": blob.descriptor.digest,
                "size": stage.size,
                "compressed": blob.descriptor.size,
                "files": sum(node.kind != "dir" for node in stage.nodes),
            }
        )
        progress.say(f"layer {stage.stage.name}: {len(stage.nodes)} paths", level=1)

    layers = assembly.write_layers(made, recipe.mtime, scratch / "layers", report)
    order = [stage.stage.name for stage in made.stages]
    reports.sort(key=lambda each: order.index(each["name"]))
    text = dockerfile.fill(
        template,
        [f"layers/{name}.tar.gz" for name in order],
        environment(recipe, full_view, made),
        labels(recipe, full_view),
    )
    document = record.document(
        (node for stage in made.stages for node in stage.nodes),
        full,
        base,
        {
            "release": recipe.release,
            "numpy": made.numpy,
            "patches": made.patches,
            "packages": made.packages,
        },
    )
    annotations = _annotations(full, base, recipe)
    direct = options.builder == "direct"
    image = Image(
        _config(text, base_view, layers, made, recipe) if direct else base.config,
        (*base.layers, *layers),
        options.platform,
        annotations,
        (record.artifact(document),),
    )
    if not direct:
        from assembler.builder import build

        context = {
            f"layers/{name}.tar.gz": layer for name, layer in zip(order, layers, strict=True)
        }
        image = build(image, base, text, context, scratch)
    destination.deliver(image, tags)
    _keep_record(options, image, document)
    return Result(
        image,
        tuple(tags),
        reports,
        _tree_size(base_view),
        _tree_size(full_view),
        options.access.bytes_read,
        progress.seconds,
        made.dropped,
    )


# -- inputs -------------------------------------------------------------------------------


def _read_text(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from None


def _folder(path: Path) -> Path:
    path.mkdir(exist_ok=True)
    return path


_BASE = tree.matcher(
    [*dpkg.FILES, "etc/{passwd,group,shadow,gshadow,subuid,subgid}", "{usr/,}lib/**/*.so*"]
)


def _base_likely(path: str) -> bool:
    # The libraries are asked for the versions that they offer.
    return bool(_BASE.fullmatch(path))


def _release(full: Source, asked: str, options: Options) -> str:
    """Return the release that the image says it is; UsageError where the user said another."""
    config = json.loads(full.config).get("config") or {}
    env = dict(pair.partition("=")[::2] for pair in config.get("Env") or [])
    found = releases.of_image(env)
    if found and options.release and found != asked:
        raise UsageError(
            f"{full.reference} is release {found}, not {asked}: ask for extract {found}"
        )
    return found or asked


def _mtime(full: Source) -> int:
    """Return the time of all that is made, in seconds: SOURCE_DATE_EPOCH, else the source's own.

    Source: reproducible-builds.org/specs/source-date-epoch; it is set, not clamped.
    """
    given = os.environ.get("SOURCE_DATE_EPOCH", "").strip()
    if given:
        if not re.fullmatch(r"\d{1,12}", given):
            raise UsageError(f"SOURCE_DATE_EPOCH={given!r} is not a number of seconds")
        return int(given)
    created = str(json.loads(full.config).get("created") or "")
    match = re.match(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)", created)
    if not match:
        return 0
    moment = datetime.strptime(match[1], "%Y-%m-%dT%H:%M:%S").replace(tzinfo=timezone.utc)
    return max(0, int(moment.timestamp()))


# -- the image ------------------------------------------------------------------------------


def environment(recipe: assembly.Recipe, full: View, made: assembly.Assembly) -> dict[str, str]:
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


def labels(recipe: assembly.Recipe, full: View) -> dict[str, str]:
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


def _annotations(full: Source, base: Source, recipe: assembly.Recipe) -> dict[str, str]:
    """Return the manifest's annotations: image-spec annotations.md, and where the files are from.

    They depend on how the source was read; layers and config do not.
    """
    found = {
        "org.opencontainers.image.created": _iso(recipe.mtime),
        "org.opencontainers.image.base.name": base.reference,
        "io.github.triton-assembler.source.name": full.reference,
        "io.github.triton-assembler.source.config": oci.sha256(full.config),
    }
    if base.digest:
        found["org.opencontainers.image.base.digest"] = base.digest
    if full.digest:
        found["io.github.triton-assembler.source.digest"] = full.digest
    return found


def _iso(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def _config(
    text: str,
    base: View,
    layers: list[LayerBlob],
    made: assembly.Assembly,
    recipe: assembly.Recipe,
) -> bytes:
    """Return the image config: the base's, continued by the filled-in Dockerfile and our layers.

    The base's own history and unknown keys stay as they are (image-spec config.md).
    """
    config = dockerfile.interpret(text, base.config)
    created = _iso(recipe.mtime)
    history = list(config.get("history") or [])
    history += [
        {"created": created, "created_by": f"assembler: stage {stage.stage.name}",
         "comment": stage.stage.summary}
        for stage in made.stages
    ]  # fmt: skip
    diff_ids = [*base.source.diff_ids, *(layer.diff_id for layer in layers)]
    config |= {
        "created": created,
        "history": history,
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
    }
    for key in ("container", "container_config", "docker_version", "id", "parent"):
        config.pop(key, None)  # facts of the build that made the base
    return oci.canonical(config)


def _tree_size(view: View) -> int:
    return sum(view.tree[path].size for path in view.tree)


def _keep_record(options: Options, image: Image, document: dict[str, Any]) -> None:
    """Keep the record where `inspect` finds it: by image id in the cache, and where asked."""
    text = json.dumps(document, indent=1, sort_keys=True, ensure_ascii=False) + "\n"
    if options.record is not None:
        options.record.write_text(text, "utf-8")
    if options.cache is not None:
        folder = options.cache / "records"
        folder.mkdir(parents=True, exist_ok=True)
        temporary = folder / f".{os.getpid()}"
        temporary.write_text(text, "utf-8")
        temporary.replace(folder / f"{image.id.removeprefix('sha256:')}.json")
