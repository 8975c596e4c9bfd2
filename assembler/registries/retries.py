"""How long to go on after a registry failed to answer."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from assembler.registries.connections import RegistryError

MIB = 1 << 20


@dataclass(frozen=True)
class Policy:
    """Seconds and counts; the figures are containers/image's (body_reader.go).

    tries: retries in a row without progress. first, cap: the pause doubles from one to the
    other. reset_after: so long after the last retry, any progress starts the count anew.
    budget: no more than this is spent, pauses and time-outs included, without progress.
    """

    tries: int = 5
    first: float = 2.0
    cap: float = 60.0
    reset_after: float = 60.0
    budget: float = 120.0


class Patience:
    """Waits before each retry of one operation, or gives up by raising the error itself."""

    def __init__(
        self,
        policy: Policy,
        clock: Callable[[], float],
        sleep: Callable[[float], object],
        waiting: Callable[[RegistryError, float], None] = lambda _error, _pause: None,
    ) -> None:
        """waiting: told of each wait before it begins, with its seconds."""
        self._policy, self._clock, self._sleep, self._waiting = policy, clock, sleep, waiting
        self._tries = 0
        self._bytes = 0
        self._since = self._last = clock()

    def progress(self, count: int) -> None:
        """Note that `count` new bytes came."""
        self._bytes += count

    def wait(self, error: RegistryError) -> None:
        """Sleep until the operation may be tried again; raises `error` when it is hopeless."""
        if not error.temporary:
            raise error
        now = self._clock()
        # Without the demand for a byte, a registry that only ever times out would keep us here.
        if self._bytes >= MIB or (self._bytes and now - self._last >= self._policy.reset_after):
            self._tries, self._since = 0, now
        self._bytes = 0
        if self._tries >= self._policy.tries:
            raise error
        pause = min(self._policy.cap, self._policy.first * 2**self._tries)
        # Jitter: the workers of a team that lost one registry should not all come back at once.
        pause *= 1 + random.random() / 10
        if error.retry_after is not None:
            pause = max(error.retry_after, 0.1)
        if now - self._since + pause > self._policy.budget:
            raise error
        self._tries += 1
        self._waiting(error, pause)
        self._sleep(pause)
        self._last = self._clock()
