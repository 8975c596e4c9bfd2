"""Between a run and its lock: what the lock makes of the options, and what a run's inputs are."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from packaging.version import Version

from assembler import __version__, oci, releases, stages
from assembler.destinations.files import made_beside
from assembler.options import Options
from assembler.papers import lock
from assembler.papers.lock import Lock, Pinned
from assembler.recipe import Recipe
from assembler.sources import Source


def chosen(known: Lock, options: Options, given: Collection[str], *, exact: bool) -> Options:
    """Return `options` with the lock's choices for all but those `given` on the command line.

    exact: images by digest, where a registry has them, and no other inputs; else the names are
    asked again, and where a name was the release's default, the default is.
    """
    changes: dict[str, Any] = {
        "release": known.release,
        "backends": known.backends,
        "keep": known.keep,
        "platform": oci.Platform.parse(known.platform),
        "builder": known.builder,
        "numpy": known.numpy or None,
        "source": known.source.name,
        "base": known.base.name,
    }
    if exact:
        changes |= {"source": known.source.address, "base": known.base.address}
        changes |= {"numpy": None}
    else:
        usual = releases.default_source(known.release), releases.default_base(known.release)
        for key, default in zip(("source", "base"), usual, strict=True):
            if changes[key] in (default, f"docker.io/library/{default}"):
                changes[key] = None
    kept = {key: value for key, value in changes.items() if key not in given}
    return replace(options, locked=known if exact else None, **kept)


def check(options: Options, recipe: Recipe, dockerfile: str, full: Source, base: Source) -> None:
    """Raise LockError, before any layer is read, where a run's inputs are not as its lock says."""
    if options.locked:
        found = inputs(replace(options, locked=None), recipe, dockerfile, full, base)
        # The Engine gives an image's exact config only with its layers.
        images = {
            key: replace(image, config="")
            for key in ("source", "base")
            if (image := getattr(found, key)).name.startswith("docker-daemon:")
        }
        lock.check(options.locked, replace(found, **images))


def inputs(options: Options, recipe: Recipe, dockerfile: str, full: Source, base: Source) -> Lock:
    """Return the inputs of a run, all but wheels: of a run by a lock, the lock's own.

    Raises LockError where they are not as the lock has them.
    """
    found = Lock(
        release=recipe.release,
        platform=str(options.platform),
        backends=options.backends,
        keep=options.keep,
        builder=options.builder,
        numpy=options.numpy or "",
        mtime=recipe.mtime,
        assembler=__version__,
        source=_pinned(full),
        base=_pinned(base),
        files=_files(options, recipe, dockerfile),
        formats=lock.formats(),
    )
    return lock.check(options.locked, found) if options.locked else found


def _pinned(source: Source) -> Pinned:
    return Pinned(source.reference, oci.sha256(source.config), source.digest or "")


def _files(options: Options, recipe: Recipe, dockerfile: str) -> dict[str, str]:
    known = stages.files([options.resource("stages"), *options.stages])
    used = {f"stages/{stage.name}.toml": known[stage.name] for stage in recipe.stages}
    for patch in recipe.patches:
        if patch.releases.contains(Version(recipe.release), prereleases=True):
            used[f"patches/{patch.name}"] = options.resource("patches") / patch.name
    return {
        "Dockerfile": hashlib.sha256(dockerfile.encode()).hexdigest(),
        **{name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in used.items()},
    }


@contextmanager
def written(known: Lock, path: Path) -> Iterator[None]:
    """Write a lock to `path`, where it appears when the block ends well; DestinationError."""
    with made_beside(path, folder=False, over=True) as temporary:
        temporary.write_text(lock.render(known), "utf-8")
        yield
