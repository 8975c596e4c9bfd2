"""What can go wrong, in words a person can act on.

Every error that a user, a registry, an Engine or a disk can cause is an
`AssemblerError`; its text is one line (or a short list) that says what, where
and what to do next. The command line prints it and exits with `exit_status`.
"""

from __future__ import annotations

from collections.abc import Iterable


class AssemblerError(Exception):
    """A run failed. The message is for the user."""

    exit_status = 1


class UsageError(AssemblerError):
    """The command was called in a way that can never work."""

    exit_status = 2


class SourceError(AssemblerError):
    """An image could not be found or read."""


class OfflineError(SourceError):
    """Something would have to be asked for, and `--offline` forbids it."""


class VerificationError(SourceError):
    """Bytes that were read are not the bytes that their digest or size names."""


class SelectionError(AssemblerError):
    """Stages, packages, libraries or patches do not fit the image."""


class DestinationError(AssemblerError):
    """The result could not be delivered; what was there before is untouched."""


def listing(headline: str, problems: Iterable[str]) -> str:
    """Return `headline` alone for one problem, or with one indented line for each, sorted."""
    lines = sorted(set(problems))
    if len(lines) == 1:
        return f"{headline}: {lines[0]}"
    return "\n  ".join([f"{headline}:", *lines])
