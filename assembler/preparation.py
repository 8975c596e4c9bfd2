"""From options to an assembly: what `plan` shows and `extract` delivers."""

from __future__ import annotations

import json
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

from assembler import (
    assembly,
    dockerfile,
    dpkg,
    patches,
    releases,
    resources,
    selection,
    stages,
    tree,
)
from assembler.errors import UsageError
from assembler.options import Options
from assembler.progress import Progress
from assembler.reference import Reference
from assembler.sources import Source
from assembler.sources.blobs import BlobSource
from assembler.view import View


@dataclass(frozen=True)
class Prepared:
    """All that is known once both images are read. scratch: a folder that ends with the run.

    template: Dockerfile.final, not filled in. tags: names for the result.
    """

    recipe: assembly.Recipe
    template: str
    tags: tuple[str, ...]
    full: View
    base: View
    base_blobs: BlobSource
    assembly: assembly.Assembly
    scratch: Path


@contextmanager
def prepare(options: Options, progress: Progress) -> Iterator[Prepared]:
    """Yield what was read, selected and closed over. Raises AssemblerError."""
    backends = list(dict.fromkeys(options.backends))
    release = releases.check(options.release or releases.DEFAULT)
    template = _read_text(options.dockerfile or resources.path("Dockerfile.final"))
    if options.builder == "direct":
        # What it cannot carry out is said now, not after the reading.
        dockerfile.interpret(dockerfile.fill(template, (), {}, {}), {})
    known = stages.load([resources.path("stages"), *options.stages])
    stages.choose(known, backends, release, list(options.keep))
    mends = patches.load(resources.path("patches"))
    reference = Reference.parse(options.source or releases.default_source(release))
    access = options.access
    with (
        tempfile.TemporaryDirectory(prefix="assembler-", ignore_cleanup_errors=True) as folder,
        access.open(reference, options.platform) as full,
    ):
        scratch = Path(folder)
        release = _release(full, release, options)
        recipe = assembly.Recipe(
            release,
            stages.choose(known, backends, release, list(options.keep)),
            list(options.keep),
            mends,
            options.numpy,
            (options.cache or scratch) / "wheels",
            access.offline,
            _mtime(full),
        )
        base = Reference.parse(options.base or releases.default_base(release))
        with (
            access.open(base, options.platform) as remote,
            progress.reading(f"base {base}", sum(remote.sizes)) as access.on_bytes,
        ):
            blobs = BlobSource(remote, scratch / "base")
            base_view = View(blobs, _folder(scratch / "base-files"), _base_likely)
        with progress.reading(full.reference, sum(full.sizes)) as access.on_bytes:
            likely = selection.likely(recipe.stages, recipe.keep)
            full_view = View(full, _folder(scratch / "full-files"), likely)
        access.on_bytes = None
        yield Prepared(
            recipe,
            template,
            options.tags or (f"tritonserver:{release}-{'-'.join(backends)}-cpu",),
            full_view,
            base_view,
            blobs,
            assembly.assemble(recipe, full_view, base_view, scratch),
            scratch,
        )


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
