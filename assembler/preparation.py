"""From options to an assembly: what `plan` shows and `extract` delivers."""

from __future__ import annotations

import errno
import json
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path

from assembler import (
    assembly,
    closure,
    dockerfile,
    interrupts,
    oci,
    offline,
    patches,
    releases,
    selection,
    stages,
    tree,
)
from assembler.caching.cache import Cache
from assembler.caching.layercache import LayerCache
from assembler.caching.remotecache import RemoteCache
from assembler.errors import AssemblerError, SourceError, UsageError
from assembler.options import Options
from assembler.papers import components, locking, sbom
from assembler.papers.lock import Lock
from assembler.parallel import Threads
from assembler.progress import Progress
from assembler.reading import Reader
from assembler.recipe import Recipe
from assembler.reference import ImageName, Reference
from assembler.registries.download import NoRanges
from assembler.seeking import finding as indexes
from assembler.seeking import index as seekindex
from assembler.seeking.index import SeekIndex
from assembler.seeking.spans import Stale
from assembler.sources import Source
from assembler.sources.blobs import BlobSource
from assembler.sources.registry import RegistrySource
from assembler.view import View
from assembler.wheelhouse import Wheelhouse

_LAST_SECOND = 253402300799  # of the year 9999, the last that an image config can name


@dataclass(frozen=True)
class Inputs:
    """What a run starts from: both images open, nothing of them read but manifest and config.

    template: Dockerfile.final, not filled in. tags: names for the result. scratch: a folder that
    ends with the run. cache: what outlives it. indexable: all stages that the release may take.
    lock: all of it in a form that another run can be held to, but the wheels.
    """

    options: Options
    recipe: Recipe
    template: str
    tags: tuple[str, ...]
    full: Source
    base: Source
    scratch: Path
    cache: Cache
    indexable: list[stages.Stage]
    lock: Lock

    def remote_cache(self, repository: ImageName) -> RemoteCache:
        """Return what is kept of layers in a registry's repository."""
        scratch = self.scratch / "remote"
        return RemoteCache(self.options.access.client, repository, self.cache, scratch)


@dataclass(frozen=True)
class Prepared:
    """All that is known once both images are read. index: of the full one, if it was asked for.

    lock: the inputs, wheels included.
    """

    inputs: Inputs
    full: View
    base: View
    base_blobs: BlobSource
    assembly: assembly.Assembly
    index: SeekIndex | None
    lock: Lock


@contextmanager
def opened(options: Options, progress: Progress) -> Iterator[Inputs]:
    """Yield the inputs, checked as far as they can be without reading. Raises AssemblerError."""
    backends = list(options.backends)
    release = releases.check(options.release or releases.DEFAULT)
    template = _read_text(options.dockerfile or options.resource("Dockerfile.final"))
    if options.builder == "direct":
        # What it cannot carry out is said now, not after the reading.
        dockerfile.interpret(dockerfile.fill(template, (), {}, {}), {})
    epoch, locked = _epoch(), options.locked
    if options.numpy is not None and (options.release or not options.source):
        releases.check_numpy(options.numpy, release)
    known = stages.load([options.resource("stages"), *options.stages])
    # Whether they can be chosen is said before anything is opened; of a source that the user
    # named, the image itself says the release, and then they are chosen anew.
    chosen = stages.choose(known, backends, release, list(options.keep))
    mends = patches.load(options.resource("patches"))
    reference = Reference.parse(options.source or releases.default_source(release))
    access = options.access
    cache = access.cache = Cache(options.cache, progress.warn)
    if access.offline and not options.bundle:
        likely = Reference.parse(options.base or releases.default_base(release))
        wheels = [(stage.wheel, options.numpy) for stage in chosen if stage.wheel]
        images = [("--source", reference), ("--base", likely)]
        offline.check(access, options.platform, images, wheels, cache)
    with ExitStack() as stack:
        scratch = stack.enter_context(_scratch(cache))
        full = stack.enter_context(access.open(reference, options.platform))
        release = _release(full, release, options)
        recipe = Recipe(
            release,
            stages.choose(known, backends, release, list(options.keep)),
            list(options.keep),
            mends,
            options.numpy,
            Cache(options.bundle.folder, progress.warn) if options.bundle else cache,
            access.offline,
            epoch if epoch is not None else locked.mtime if locked else _created(full),
            locked.wheels if locked else {},
        )
        tags = options.tags or (options.default_tag(release),)
        labels = oci.labels(json.loads(full.config))
        name = Reference.parse(options.base or releases.default_base(release, labels))
        with access.open(name, options.platform) as base:
            indexable = [s for s in stages.of_release(known, release) if not s.refuse]
            locking.check(options, recipe, template, full, base)
            lock = locking.inputs(options, recipe, template, full, base)
            yield Inputs(
                options, recipe, template, tags, full, base, scratch, cache, indexable, lock
            )


def prepare(inputs: Inputs, progress: Progress) -> Prepared:
    """Read both images, select and close over what is wanted. Raises AssemblerError."""
    options, full = inputs.options, inputs.full
    for name in () if options.reads_all else options.cache_from:
        _fetch(inputs, name, progress)
    if options.reads_all:
        # It may be a stranger's, and would be believed of files that this run has no use for.
        indexes.forget(full, inputs.cache)
    index, data = indexes.of(full, inputs.cache), b""
    if options.index is not None and not hasattr(full, "read_spans"):
        progress.warn(f"the index is not used: {full.reference} is not in a registry")
    elif options.index is not None:
        index, data = indexes.read(options.index, full, options.access.client)
    try:
        ready = _prepare(inputs, progress, index)
        if data:
            # It proved right, and serves again.
            indexes.keep(data, full, inputs.cache)
        return ready
    except (Stale, NoRanges) as error:
        progress.warn(f"the index is not used: {error}; the layers are read instead")
        if isinstance(error, Stale):
            indexes.forget(full, inputs.cache)
        return _prepare(inputs, progress, None)


def _fetch(inputs: Inputs, repository: ImageName, progress: Progress) -> None:
    """Bring what a registry knows of the full image's layers into the cache; at worst a warning."""
    try:
        packs = inputs.remote_cache(repository).fetch(inputs.full)
        progress.say(f"{packs} packs from {repository}", level=1)
    except SourceError as error:
        progress.warn(f"--cache-from is not used: {error}")


def _prepare(inputs: Inputs, progress: Progress, index: SeekIndex | None) -> Prepared:
    options = inputs.options
    # The cache may have links to what another attempt wrote.
    inputs = replace(inputs, scratch=Path(tempfile.mkdtemp(dir=inputs.scratch)))
    making = seekindex.Making() if options.make_index else None
    machine = closure.MACHINES.get(options.platform.architecture, "")
    with Wheelhouse(inputs.recipe, inputs.scratch, machine) as wheelhouse:
        blobs, base, full = _read(inputs, progress, index, making, wheelhouse)
        for remark in releases.remarks(inputs.recipe.release, full, base):
            progress.warn(remark)
        made = assembly.assemble(inputs.recipe, full, base, inputs.scratch, wheelhouse)
    for view in (base, full):
        for line in view.reading():
            progress.say(line, level=1)
    made_index = making.made() if making else None
    if made_index is not None:
        indexes.keep(seekindex.dump(made_index), inputs.full, inputs.cache)
    # An Engine's exact config is known only now.
    lock = locking.inputs(options, inputs.recipe, inputs.template, inputs.full, blobs)
    lock = replace(lock, wheels=made.wheels)
    return Prepared(inputs, full, base, blobs, made, made_index, lock)


def _read(
    inputs: Inputs,
    progress: Progress,
    index: SeekIndex | None,
    making: seekindex.Making | None,
    wheelhouse: Wheelhouse,
) -> tuple[BlobSource, View, View]:
    """Return the base, as blobs and as a view, and the full image's view; both read at once."""
    scratch, options, recipe = inputs.scratch, inputs.options, inputs.recipe
    access, record = options.access, making is not None
    index = None if options.reads_all else index
    known = LayerCache(inputs.cache, _folder(scratch / "packs"), forget=options.reads_all)

    def reader(source: Source, name: str) -> Reader:
        folder, seen = _folder(scratch / name), None
        if source is inputs.full:
            seen = wheelhouse.look
            if options.bundle:
                return options.bundle.reader(source, folder, seen)
        return Reader(source, folder, known, index, making, seen)

    def read_base() -> tuple[BlobSource, View]:
        base, place = inputs.base, scratch / "base"
        here = [inputs.cache.blob(each, place / "sha256") for each in base.digests if each]
        if isinstance(base, RegistrySource) and not all(here):
            listed = index.listed(base) if index else set()
            if all(each in listed for each in base.digests):
                base.paired = listed
                base = BlobSource(base, place, inputs.cache)
            else:
                # Its layers are wanted whole as well: they are kept while they pass.
                base.keep_in = place
        else:
            base = BlobSource(base, place, inputs.cache)
        view = View(base, _base_likely, reader(base, "base-files"))
        return BlobSource(inputs.base, place, inputs.cache), view

    wanted = inputs.indexable if record else recipe.stages
    likely = selection.likely(wanted, recipe.keep, all_kept=record)
    progress.say(f"reading base {inputs.base.reference}")
    with Threads(2, "base") as pool:
        reading = pool.submit(read_base)

        if options.papers:
            pool.submit(sbom.load)
        try:
            with progress.reading(inputs.full.reference, sum(inputs.full.sizes)) as access.on_bytes:
                full = View(inputs.full, likely, reader(inputs.full, "full-files"))
            return (*reading.result(), full)
        except BaseException:
            # The pool waits for its thread, which must not wait for a slow network.
            inputs.base.close()
            access.interrupt()
            raise
        finally:
            access.on_bytes = None


@contextmanager
def _scratch(cache: Cache) -> Iterator[Path]:
    """Yield a folder that ends with the block; where its disk fills, an error that says so.

    It is on the cache's disk where there is one, so that keeping a file is a link.
    """
    home = cache.scratch()
    with interrupts.held():
        made = tempfile.TemporaryDirectory(
            prefix="assembler-", dir=home, ignore_cleanup_errors=True
        )
    with made as folder:
        try:
            yield Path(folder)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            advice = "choose another --cache-dir" if home else "let TMPDIR name another folder"
            raise AssemblerError(
                f"the disk of {Path(folder).parent} is full ({error.strerror}): make room, or "
                f"{advice}"
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
        *components.FILES,
        releases.OS_RELEASE,
        "etc/{passwd,group,shadow,gshadow,subuid,subgid}",
        "{usr/,}lib/{,*-linux-*/}*.so*",
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
    return releases.check(found or asked)


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
    try:
        moment = datetime.strptime(created[:19], "%Y-%m-%dT%H:%M:%S")
    except ValueError:
        return 0
    return max(0, int(moment.replace(tzinfo=timezone.utc).timestamp()))
