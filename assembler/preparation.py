"""From options to an assembly: what `plan` shows and `extract` delivers."""

from __future__ import annotations

import errno
import json
import os
import re
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

from assembler import (
    assembly,
    dockerfile,
    dpkg,
    interrupts,
    oci,
    patches,
    releases,
    resources,
    selection,
    stages,
    tree,
)
from assembler.cache import Cache
from assembler.errors import AssemblerError, UsageError
from assembler.options import Options
from assembler.progress import Progress
from assembler.reference import Reference
from assembler.sources import Source
from assembler.sources.blobs import BlobSource
from assembler.sources.opening import Access
from assembler.view import View

_LAST_SECOND = 253402300799  # of the year 9999, the last that an image config can name


@dataclass(frozen=True)
class Prepared:
    """All that is known once both images are read. scratch: a folder that ends with the run.

    template: Dockerfile.final, not filled in. tags: names for the result.
    cache: what outlives the run.
    """

    recipe: assembly.Recipe
    template: str
    tags: tuple[str, ...]
    full: View
    base: View
    base_blobs: BlobSource
    assembly: assembly.Assembly
    scratch: Path
    cache: Cache


@contextmanager
def prepare(options: Options, progress: Progress) -> Iterator[Prepared]:
    """Yield what was read, selected and closed over. Raises AssemblerError."""
    backends = list(dict.fromkeys(options.backends))
    release = releases.check(options.release or releases.DEFAULT)
    template = _read_text(options.dockerfile or resources.path("Dockerfile.final"))
    if options.builder == "direct":
        # What it cannot carry out is said now, not after the reading.
        dockerfile.interpret(dockerfile.fill(template, (), {}, {}), {})
    epoch = _epoch()
    if options.numpy is not None and (options.release or not options.source):
        releases.check_numpy(options.numpy, release)
    known = stages.load([resources.path("stages"), *options.stages])
    stages.choose(known, backends, release, list(options.keep))
    mends = patches.load(resources.path("patches"))
    reference = Reference.parse(options.source or releases.default_source(release))
    access = options.access
    cache = Cache(options.cache, progress.warn)
    with _scratch() as scratch, access.open(reference, options.platform) as full:
        release = _release(full, release, options)
        recipe = assembly.Recipe(
            release,
            stages.choose(known, backends, release, list(options.keep)),
            list(options.keep),
            mends,
            options.numpy,
            cache,
            access.offline,
            epoch if epoch is not None else _created(full),
        )
        base = Reference.parse(
            options.base or releases.default_base(release, oci.labels(json.loads(full.config)))
        )
        with access.open(base, options.platform) as remote:
            progress.say(f"reading base {base}")
            blobs, base_view, full_view = _read(remote, full, recipe, scratch, access, progress)
            for remark in releases.remarks(release, full_view, base_view):
                progress.warn(remark)
        yield Prepared(
            recipe,
            template,
            options.tags or (f"tritonserver:{release}-{'-'.join(backends)}-cpu",),
            full_view,
            base_view,
            blobs,
            assembly.assemble(recipe, full_view, base_view, scratch),
            scratch,
            cache,
        )


def _read(
    remote: Source,
    full: Source,
    recipe: assembly.Recipe,
    scratch: Path,
    access: Access,
    progress: Progress,
) -> tuple[BlobSource, View, View]:
    """Return the base, as blobs and as a view, and the full image's view; both read at once."""

    def read_base() -> tuple[BlobSource, View]:
        blobs = BlobSource(remote, scratch / "base")
        return blobs, View(blobs, _folder(scratch / "base-files"), _base_likely)

    likely = selection.likely(recipe.stages, recipe.keep)
    with ThreadPoolExecutor(1, "base") as pool:
        reading = pool.submit(read_base)
        try:
            with progress.reading(full.reference, sum(full.sizes)) as access.on_bytes:
                view = View(full, _folder(scratch / "full-files"), likely)
            return (*reading.result(), view)
        except BaseException:
            # The pool waits for its thread, which must not wait for a slow network.
            remote.close()
            access.interrupt()
            raise
        finally:
            access.on_bytes = None


@contextmanager
def _scratch() -> Iterator[Path]:
    """Yield a folder that ends with the block; where its disk fills, an error that says so."""
    with interrupts.held():
        made = tempfile.TemporaryDirectory(prefix="assembler-", ignore_cleanup_errors=True)
    with made as folder:
        try:
            yield Path(folder)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            raise AssemblerError(
                f"the disk of {Path(folder).parent} is full ({error.strerror}): make room, or let "
                "TMPDIR name a folder on another disk"
            ) from None
        finally:
            interrupts.finish()


def _read_text(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from None


def _folder(path: Path) -> Path:
    path.mkdir(exist_ok=True)
    return path


_BASE = tree.matcher(
    [
        *dpkg.FILES,
        releases.OS_RELEASE,
        "etc/{passwd,group,shadow,gshadow,subuid,subgid}",
        "{usr/,}lib/**/*.so*",
    ]
)


def _base_likely(path: str) -> bool:
    # The libraries are asked for the versions that they offer.
    return bool(_BASE.fullmatch(path))


def _release(full: Source, asked: str, options: Options) -> str:
    """Return the release that the image says it is; UsageError where the user said another."""
    found = releases.of_image(oci.environment(json.loads(full.config)))
    if found and options.release and found != asked:
        raise UsageError(
            f"{full.reference} is release {found}, not {asked}: ask for extract {found}"
        )
    return found or asked


def _epoch() -> int | None:
    """Return SOURCE_DATE_EPOCH, the time that all files made will have, or None where it is unset.

    Source: reproducible-builds.org/specs/source-date-epoch; it is set, not clamped.
    """
    given = os.environ.get("SOURCE_DATE_EPOCH", "").strip()
    if not given:
        return None
    if not re.fullmatch(r"[0-9]{1,12}", given) or int(given) > _LAST_SECOND:
        raise UsageError(
            f"SOURCE_DATE_EPOCH={given!r} is not a number of seconds since 1970, like 1716422400"
        )
    return int(given)


def _created(full: Source) -> int:
    """Return the time when the full image was made, in seconds since 1970; 0 where it is unsaid."""
    created = str(json.loads(full.config).get("created") or "")
    match = re.match(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)", created)
    if not match:
        return 0
    moment = datetime.strptime(match[1], "%Y-%m-%dT%H:%M:%S").replace(tzinfo=timezone.utc)
    return max(0, int(moment.timestamp()))
