"""The far side: which image of a bundle, and the options that make it out of the bundle alone."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from assembler import interrupts, oci
from assembler.bundle.bundled import BundledImage
from assembler.bundle.file import BundleFile, shown
from assembler.bundle.parts import BundleError
from assembler.errors import UsageError, listing
from assembler.options import Options
from assembler.papers import lock, locking
from assembler.papers.lock import Lock, LockError
from assembler.reference import Reference


@contextmanager
def opened(path: Path, asked: Callable[[Mapping[str, Any]], bool]) -> Iterator[BundledImage]:
    """Yield the one image of the bundle that is `asked` for; all of the bundle is verified first.

    Raises BundleError, UsageError.
    """
    with interrupts.held():
        made = tempfile.TemporaryDirectory(prefix="assembler-bundle-", ignore_cleanup_errors=True)
    with made as folder, BundleFile([path]) as file:
        file.verify()
        try:
            found = BundledImage(file, _choose(file, asked), Path(folder))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise BundleError(f"{file.where} has a malformed index: {error}") from None
        yield found


def _choose(file: BundleFile, asked: Callable[[Mapping[str, Any]], bool]) -> Mapping[str, Any]:
    found = [image for image in file.images if asked(image)]
    if len(found) == 1:
        return found[0]
    there = "; ".join(shown(image) for image in found or file.images)
    if found:
        raise UsageError(f"{file.where} has several images, say which: {there}")
    raise UsageError(f"{file.where} has no such image; it has {there or 'none'}")


def chosen(image: BundledImage, options: Options, locked: Lock | None) -> Options:
    """Return the options that make this image. LockError where `locked` does not fit."""
    where = image.file.where
    if locked is not None and (found := lock.changes(locked, image.lock)):
        raise LockError(
            listing(f"the lock does not fit the bundle {where}", found)
            .replace("it was", "the lock has")
        )  # fmt: skip
    made = locking.chosen(image.lock, options, (), exact=True)
    for key, source in image.sources.items():
        pinned = getattr(image.lock, key)
        if (oci.sha256(source.config), source.digest or "") != (pinned.config, pinned.digest):
            raise LockError(f"{where}: its lock does not fit its {key}")
        options.access.given[str(Reference.parse(pinned.address))] = source
    return replace(made, bundle=image)
