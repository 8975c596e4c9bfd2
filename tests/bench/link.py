"""A link of a given rate and delay: a TCP proxy on loopback, in a process of its own.

`python -m tests.bench.link PORT RATE DELAY` forwards to 127.0.0.1:PORT, bytes towards the client at
RATE bytes per second, shared by all connections, after DELAY seconds; prints its own port. (tc and
netem would do the same in the kernel, but are not in every kernel.)
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

PIECE = 1 << 16
RATES = {"100M": 100e6 / 8, "1G": 1e9 / 8}  # bytes per second
DELAY = 0.02  # seconds there and back


class Link:
    """Bytes that may pass: the next piece begins when the last one has gone by."""

    def __init__(self, rate: float) -> None:
        self._rate, self._free = rate, 0.0

    async def passes(self, count: int) -> None:
        """Wait until `count` bytes have gone by."""
        now = time.monotonic()
        # Sleeping is late by a millisecond or so: that much may be made up for.
        self._free = max(self._free, now - 0.005) + count / self._rate
        if self._free > now:
            await asyncio.sleep(self._free - now)


async def _pump(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, link: Link | None, delay: float
) -> None:
    with suppress(ConnectionError):
        if delay:
            first = await reader.read(PIECE)
            await asyncio.sleep(delay)
            writer.write(first)
        while data := await reader.read(PIECE):
            if link is not None:
                await link.passes(len(data))
            writer.write(data)
            await writer.drain()
    writer.close()


async def _serve(port: int, rate: float, delay: float) -> None:
    link = Link(rate)

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        theirs, ours = await asyncio.open_connection("127.0.0.1", port)
        # The delay is paid where a request goes out: once for each connection's first.
        await asyncio.gather(_pump(reader, ours, None, delay), _pump(theirs, writer, link, 0))

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    async with server:
        await server.serve_forever()


@contextmanager
def shaped(host: str, name: str) -> Iterator[str]:
    """Yield the address at which the registry `host` is reached over the link `name`."""
    command = [
        sys.executable, "-m", "tests.bench.link", host.rpartition(":")[2], str(RATES[name]),
        str(DELAY),
    ]  # fmt: skip
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield f"127.0.0.1:{process.stdout.readline().strip()}"
    finally:
        process.terminate()
        process.wait(10)


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        asyncio.run(_serve(int(sys.argv[1]), float(sys.argv[2]), float(sys.argv[3])))
