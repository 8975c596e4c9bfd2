"""Ctrl-C and SIGTERM: one exception for both, and no second one while cleaning up."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_received: list[int] = []
_listening: list[bool] = []


class Stopped(KeyboardInterrupt):
    """Ctrl-C or SIGTERM: every `finally` and `with` on the way out cleans up.

    A class of its own: where KeyboardInterrupt itself passes an exec() (dataclasses have one),
    Python ends the process by SIGINT afterwards, whatever status it was to exit with.
    """


def _stop(signum: int, _frame: FrameType | None) -> None:
    finish()  # A second Ctrl-C must not cut the cleaning up short.
    _received.append(signum)
    raise Stopped(signum)


def received() -> int:
    """Return the number of the signal that stops the run; 0 where none came."""
    return _received[-1] if _received else 0


def listen() -> None:
    """From now on, a signal raises Stopped in the main thread."""
    sys.unraisablehook = _again
    _listening.append(True)
    for each in _SIGNALS:
        signal.signal(each, _stop)


def finish() -> None:
    """Let what has begun come to its end: cleaning up, or the last step of delivering."""
    for each in _SIGNALS:
        if signal.getsignal(each) is _stop:
            signal.signal(each, signal.SIG_IGN)


def resume() -> None:
    """Let signals stop the run again: what finish() was called for was one part of it."""
    for each in _SIGNALS:
        if _listening and not _received and signal.getsignal(each) is signal.SIG_IGN:
            signal.signal(each, _stop)


@contextmanager
def held() -> Iterator[None]:
    """Let a signal wait until the block has ended: what it makes must not be lost sight of."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _again(unraisable: Any) -> None:
    """Python drops what is raised in a destructor or a callback; stop a moment later, then."""
    if not isinstance(unraisable.exc_value, Stopped):
        sys.__unraisablehook__(unraisable)
        return
    import threading

    listen()
    threading.Timer(0.02, os.kill, (os.getpid(), unraisable.exc_value.args[0])).start()
