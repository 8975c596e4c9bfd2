"""A blob as one stream, whatever happens to the connections that it comes over."""

from __future__ import annotations

import contextlib
import io
import re
import threading
from collections.abc import Callable, Sequence
from typing import Any

import requests

from assembler.errors import SourceError, VerificationError
from assembler.registries.connections import BROKEN, Connections, RegistryError, host_of
from assembler.registries.retries import Patience

# Bytes asked for at once: what came before a break is kept to this grain.
PIECE = 128 << 10

# Asks one place for the blob, with a Range header or without; raises RegistryError.
# Statuses 200, 206 and 416 are answers.
Ask = Callable[[str | None], requests.Response]


class Cancelled(SourceError):
    """Reading was given up because something else failed first."""


class NoRanges(SourceError):
    """A registry does not give parts of a blob, or not those that were asked for."""


class Body:
    """One response that carries (part of) a blob. position: of its next byte in the blob."""

    def __init__(
        self,
        response: requests.Response,
        position: int,
        decode: bool,
        what: str,
        connections: Connections,
    ) -> None:
        self.position, self._response, self._decode = position, response, decode
        self._what, self._connections = what, connections
        self._rest = b""

    @classmethod
    def open(cls, ask: Ask, offset: int, size: int, what: str, connections: Connections) -> Body:
        """Return a body that starts at `offset`, or at 0 where the place cannot do better."""
        if offset:
            # A closed range: "N-" is answered with 416 by some (ggcr's registry; stereoscope #695).
            response = ask(f"bytes={offset}-{size - 1}")
            answered = re.fullmatch(
                r"bytes (\d+)-\d+/(\d+)", response.headers.get("Content-Range", "")
            )
            plain = "Content-Encoding" not in response.headers
            if response.status_code == 206 and answered and plain:
                if (int(answered[1]), int(answered[2])) == (offset, size):
                    return cls(response, offset, False, what, connections)
            elif response.status_code == 200:
                return cls._whole(response, size, what, connections)
            response.close()
        response = ask(None)
        if response.status_code != 200:
            response.close()
            raise RegistryError(
                f"{what}: asked for all of it, got status {response.status_code}",
                status=response.status_code,
            )
        return cls._whole(response, size, what, connections)

    @classmethod
    def span(
        cls, ask: Ask, start: int, end: int, size: int, what: str, connections: Connections
    ) -> Body:
        """Return a body of the bytes from `start` up to `end`. Raises NoRanges."""
        response = ask(f"bytes={start}-{end - 1}")
        got = response.headers.get("Content-Range", "")
        whole = response.status_code == 206 and "Content-Encoding" not in response.headers
        if whole and got == f"bytes {start}-{end - 1}/{size}":
            return cls(response, start, False, what, connections)
        response.close()
        raise NoRanges(
            f"{what}: asked for bytes {start} to {end - 1} of {size}, "
            f"got status {response.status_code} {got}".rstrip()
        )

    @classmethod
    def _whole(
        cls, response: requests.Response, size: int, what: str, connections: Connections
    ) -> Body:
        length = response.headers.get("Content-Length", "")
        encoding = response.headers.get("Content-Encoding", "identity").lower()
        # Storage labels gzip layers "Content-Encoding: gzip" though they are meant as they are;
        # a proxy that compresses on its way changes their length, or cannot tell it.
        decode = encoding != "identity" and length != str(size)
        if not decode and length.isdecimal() and int(length) != size:
            response.close()
            host = host_of(response.url)
            raise VerificationError(f"{what} has {length} bytes at {host}, expected {size}")
        return cls(response, 0, decode, what, connections)

    @property
    def host(self) -> str:
        """Where the bytes come from, after all redirects."""
        return host_of(self._response.url or "")

    def read(self, count: int) -> bytes:
        """Return up to `count` bytes, none at the end. Raises RegistryError."""
        try:
            data = self._rest or self._response.raw.read(count, decode_content=self._decode)
        except BROKEN as error:
            raise self._connections.explain(error, self._response.url, self._what) from None
        # urllib3 1.26 counts before it decodes, and may return more.
        data, self._rest = data[:count], data[count:]
        self.position += len(data)
        return bytes(data)

    def close(self) -> None:
        self._response.close()


class BlobReader(io.RawIOBase):
    """Streams a blob of known size, and takes it up again where a connection broke.

    places: where it can be had, best first; the next is asked when one has failed for good.
    patience: makes what waits between retries. on_bytes: told of bytes handed out; on_read:
    of bytes that came over the network. cancelled: when set, every read raises Cancelled.
    span: the first byte to read, and the one after the last; NoRanges where that is not given.
    Bytes are not verified here (see streams.VerifiedReader), but there are never too many.
    hosts: where they came from.
    """

    def __init__(
        self,
        places: Sequence[Ask],
        size: int,
        what: str,
        connections: Connections,
        patience: Callable[[], Patience],
        *,
        cancelled: threading.Event | None = None,
        on_bytes: Callable[[int], object] | None = None,
        on_read: Callable[[int], object] | None = None,
        span: tuple[int, int] | None = None,
    ) -> None:
        self._places, self._total, self._what = list(places), size, what
        self._span = span
        self._position, self._size = span or (0, size)
        self._connections, self._new_patience = connections, patience
        self._patience = patience()
        self._cancelled = cancelled or threading.Event()
        self._on_bytes, self._on_read = on_bytes, on_read
        self._body: Body | None = None
        self.hosts: list[str] = []
        self._ended = False

    def readable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def readinto(self, buffer: Any) -> int:
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def read(self, size: int = -1) -> bytes:
        """Return up to `size` bytes, fewer only at the end; raises SourceError."""
        wanted = self._size - self._position
        if size is not None and size >= 0:
            wanted = min(wanted, size)
        pieces: list[bytes] = []
        while wanted > 0:
            pieces.append(self._piece(min(wanted, PIECE)))
            wanted -= len(pieces[-1])
        if self._position == self._size and size != 0:
            self._end()
        return b"".join(pieces)

    def _piece(self, count: int) -> bytes:
        while True:
            if self._cancelled.is_set():
                raise Cancelled(f"{self._what}: reading was given up")
            try:
                return self._attempt(count)
            except RegistryError as error:
                self._drop()
                if self._cancelled.is_set():
                    continue
                self._recover(error)

    def _attempt(self, count: int) -> bytes:
        if self._body is None:
            about = self._what, self._connections
            place, at = self._places[0], self._position
            if self._span:
                self._body = Body.span(place, at, self._size, self._total, *about)
            else:
                self._body = Body.open(place, at, self._total, *about)
            if self._body.host not in self.hosts:
                self.hosts.append(self._body.host)
        while True:
            # A place without ranges started over: skip what was handed out already.
            behind = self._position - self._body.position
            data = self._body.read(min(behind, PIECE) if behind else count)
            if not data:
                raise RegistryError(
                    f"{self._what} broke off at byte {self._body.position} of {self._size}",
                    temporary=True,
                )
            if self._on_read:
                self._on_read(len(data))
            if not behind:
                break
        self._position += len(data)
        self._patience.progress(len(data))
        if self._on_bytes:
            self._on_bytes(len(data))
        return data

    def _recover(self, error: RegistryError) -> None:
        elsewhere = len(self._places) > 1 and error.passes_on
        try:
            # A mirror that is out of order would be waited for with each layer anew.
            if not (elsewhere and error.status >= 500):
                self._patience.wait(error)
                return
        except RegistryError:
            if not elsewhere:
                raise
        del self._places[0]
        self._patience = self._new_patience()

    def _end(self) -> None:
        """See that nothing follows, which also gives the connection back for the next request."""
        if self._ended:
            return
        self._ended = True
        extra = b""
        if self._body is not None:
            # All bytes are here: that the connection breaks now harms nobody.
            with contextlib.suppress(RegistryError):
                extra = self._body.read(1)
            self._drop()
        if extra:
            raise VerificationError(f"{self._what} is longer than its {self._size} bytes")

    def _drop(self) -> None:
        if self._body is not None:
            self._body.close()
            self._body = None

    def close(self) -> None:
        """Close the connection, unless the blob was read to its end."""
        self._drop()
        super().close()
