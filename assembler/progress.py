"""What the user sees while it runs: bars on a terminal, plain lines where output is piped."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress


class Progress:
    """Tells of steps and bytes on standard error. verbosity: -1 quiet, 0 normal, 1 verbose."""

    def __init__(self, verbosity: int = 0) -> None:
        self.verbosity = verbosity
        self.started = time.monotonic()
        self._bars: RichProgress | None = None

    @property
    def seconds(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self.started

    def say(self, text: str, *, level: int = 0) -> None:
        """Print one line, unless the user asked for less."""
        if self.verbosity < level:
            return
        text = plain(text, "\n")
        if self._bars is not None:
            self._bars.console.print(text, markup=False, highlight=False, emoji=False)
        else:
            print(text, file=sys.stderr, flush=True)

    def warn(self, text: str) -> None:
        """Print a warning; -q does not silence it."""
        self.say(f"warning: {text}", level=-1)

    @contextmanager
    def reading(self, what: str, total: int, doing: str = "reading") -> Iterator[Any]:
        """Yield a function to call with numbers of bytes as they come. total: bytes, 0 unknown."""
        self.say(f"{doing} {what}" + (f" ({size(total)})" if total else ""))
        if self.verbosity < 0 or not sys.stderr.isatty():
            yield lambda _count: None
            return
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            DownloadColumn,
            Progress,
            TextColumn,
            TimeRemainingColumn,
            TransferSpeedColumn,
        )

        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            DownloadColumn(),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
            task = bars.add_task(what, total=total or None)
            self._bars = bars
            try:
                yield lambda count: bars.advance(task, count)
            finally:
                self._bars = None


def plain(text: str, also: str = "") -> str:
    """Return a text, which others may have had a hand in, with nothing in it that a terminal would
    act on, but for the characters in `also`.
    """
    return "".join(c if c.isprintable() or c in also else f"\\x{ord(c):02x}" for c in text)


def size(count: float) -> str:
    """Return bytes as people read them (decimal units, as docker has them)."""
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.2f} GB"
