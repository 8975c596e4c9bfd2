"""What --offline has not at hand, told all at once and before anything is read."""

from __future__ import annotations

from pathlib import Path

from assembler import releases, wheels
from assembler.cache import Cache
from assembler.errors import OfflineError, SelectionError, listing
from assembler.layercache import LayerCache
from assembler.options import Options
from assembler.reference import Reference
from assembler.sources import Source
from assembler.stages import Stage

# Ubuntu's Python and glibc by release, for a guess at the wheel before the image can be asked.
_PYTHONS = {"ubuntu:20.04": ((3, 8), (2, 31)), "ubuntu:22.04": ((3, 10), (2, 35)),
            "ubuntu:24.04": ((3, 12), (2, 39))}  # fmt: skip
_MACHINES = {"amd64": "x86_64", "arm64": "aarch64"}


def check_images(
    options: Options, release: str, full: Reference, base: Reference, chosen: list[Stage],
    scratch: Path,
) -> None:  # fmt: skip
    """Raise OfflineError where an image is not known: with all else that is not at hand."""
    access = options.access
    unknown, lacking = [], []
    for what, reference in (("source", full), ("base", base)):
        if not reference.is_remote:
            continue
        try:
            with access.open(reference, options.platform) as source:
                lacking += _layers(what, source, access.cache, options, scratch)
        except OfflineError:
            unknown.append(f"the {what} {reference}: it was not read into this cache before")
    if unknown:
        _refuse([*unknown, *lacking, *_wheels(options, release, chosen, scratch)])


def check_layers(
    options: Options, release: str, full: Source, base: Source, chosen: list[Stage], scratch: Path
) -> None:
    """Raise OfflineError where layers are not at hand: with all else that is not."""
    from assembler.sources.registry import RegistrySource

    lacking = []
    for what, source in (("source", full), ("base", base)):
        if isinstance(source, RegistrySource):
            lacking += _layers(what, source, options.access.cache, options, scratch)
    if lacking:
        _refuse([*lacking, *_wheels(options, release, chosen, scratch)])


def _refuse(problems: list[str]) -> None:
    raise OfflineError(
        listing(
            "not at hand, and --offline forbids to fetch it (run this once with a network and the "
            "same --cache-dir, or carry a bundle here: extract --bundle)",
            problems,
        )
    )


def _layers(what: str, source: Source, cache: Cache, options: Options, scratch: Path) -> list[str]:
    known = LayerCache(cache, scratch, forget=options.reads_all)
    lacking = []
    for number, (diff_id, digest) in enumerate(
        zip(source.diff_ids, source.digests, strict=True), 1
    ):
        name = f"blobs/{(digest or '').replace(':', '/')}"
        there = cache.find(name) if what == "base" else known.knows(diff_id, digest)
        if not there:
            lacking.append(str(number))
    if not lacking:
        return []
    which = f"layer{'s' * (len(lacking) > 1)} {', '.join(lacking)} of {len(source.diff_ids)}"
    return [f"{which} of the {what} {source.reference}"]


def _wheels(options: Options, release: str, chosen: list[Stage], scratch: Path) -> list[str]:
    """Return what is said of wheels that are not at hand, as far as can be guessed."""
    python, glibc = _PYTHONS[releases.default_base(release)]
    machine = _MACHINES.get(options.platform.architecture, "x86_64")
    target = wheels.Target(python, "", "", glibc, machine)
    cache, found = options.access.cache, []
    for stage in chosen:
        pin = options.locked.wheels.get(stage.wheel) if options.locked else None
        version = pin.version if pin else options.numpy or releases.default_numpy(python)
        if not stage.wheel or cache.find(f"wheels/{stage.wheel}-{version}-*.whl"):
            continue
        try:
            wheels.fetch(stage.wheel, version, target, cache, scratch, offline=True, pin=pin)
        except SelectionError as error:
            found.append(str(error))
    return found
