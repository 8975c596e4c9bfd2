"""Threads that nothing outlives; several transfers at a time, which the first failure ends."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed, wait
from typing import Any, TypeVar

from assembler import interrupts

Item = TypeVar("Item")
Result = TypeVar("Result")


class Threads(ThreadPoolExecutor):
    """A pool that knows all its threads, whenever Ctrl-C comes.

    A signal in the moment in which a thread begins would leave it running, and nobody would wait
    for it before its files are taken away.
    """

    def submit(self, fn: Callable[..., Result], /, *args: Any, **kwargs: Any) -> Future[Result]:
        """As ThreadPoolExecutor's; signals wait meanwhile, and never come to the new thread."""
        with interrupts.held():
            return super().submit(fn, *args, **kwargs)


def each(
    items: Sequence[Item],
    work: Callable[[Item], Result],
    *,
    workers: int,
    cancelled: threading.Event,
    interrupt: Callable[[], object],
) -> list[Result]:
    """Return what `work` gives for each item, in their order; they are begun in it.

    After a failure, or Ctrl-C, `cancelled` is set, `interrupt` breaks connections that are waited
    for, and what failed first is raised.
    """
    futures: list[Future[Result]] = []
    if not items:
        return []
    with Threads(min(workers, len(items)), "transfer") as pool:
        try:
            futures.extend(pool.submit(work, item) for item in items)
            for future in as_completed(futures):
                future.result()
        except BaseException:
            cancelled.set()
            for future in futures:
                future.cancel()
            # A thread that waits for a byte would wait for its time-out, and we for it; one
            # that was just about to connect is caught the next time round.
            while wait(futures, timeout=0.1).not_done:
                interrupt()
            raise
    return [future.result() for future in futures]
