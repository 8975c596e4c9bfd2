"""From the IMAGE of the command line to a view of it, and to its record."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from assembler.errors import AssemblerError, SourceError
from assembler.oci import Platform
from assembler.papers import components
from assembler.reference import TRANSPORTS, Reference
from assembler.sources import Source
from assembler.sources.opening import Access, at_path
from assembler.tree import matcher
from assembler.view import View

_kept = matcher(components.FILES).fullmatch


@contextmanager
def opened(text: str, platform: Platform, access: Access) -> Iterator[tuple[Reference, Source]]:
    """Yield the image that `text` names; of a file or folder its path is enough.

    A name with no transport is first asked of the Engine, then of its registry. Raises
    SourceError and UsageError.
    """
    with ExitStack() as stack:
        said = at_path(text)
        if text.partition(":")[0] in TRANSPORTS:
            said = Reference.parse(text)
        if said is not None:
            yield said, stack.enter_context(access.open(said, platform))
            return
        reference = Reference.parse(f"docker-daemon:{text}")
        try:
            source = stack.enter_context(access.open(reference, platform))
        except AssemblerError as error:
            if access.offline:
                raise
            reference = Reference.parse(text)
            try:
                source = stack.enter_context(access.open(reference, platform))
            except AssemblerError as other:
                raise SourceError(f"{other}; and {error}") from None
        yield reference, source


def read(source: Source, folder: Path) -> View:
    """Return the view of an image, with the content of what tells of its components."""
    return View.of(source, folder, lambda path: bool(_kept(path)))
