"""A blob on its way into a registry: what to do when an upload does not go through.

Chunks, so that a broken connection or a token that ends costs one chunk and not the blob
(layers-and-registries.md, 83); all of it at once where the registry takes no chunks.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from typing import BinaryIO

from assembler import oci
from assembler.errors import VerificationError
from assembler.registries.connections import RegistryError
from assembler.registries.download import Cancelled
from assembler.registries.endpoint import Endpoint
from assembler.registries.retries import Patience
from assembler.registries.sessions import ChunksRefused, LostSession, Outgoing, Session

ATTEMPTS = 6  # times that one blob is begun
LARGEST = 32 << 20  # bytes of a chunk that is kept in memory, whatever a registry would like
SMALLEST = 64 << 10  # bytes of a chunk, below which a registry that finds it too large is believed

Open = Callable[[], BinaryIO]


def wait(patience: Patience, error: RegistryError, cancelled: threading.Event) -> None:
    """Wait for the next try; raises `error` when it is hopeless, and Cancelled when given up."""
    if not cancelled.is_set():
        patience.wait(error)
    if cancelled.is_set():
        raise Cancelled("the upload was given up")


class Sending:
    """Sends one blob, session after session if it must be; see `Uploader.blob`."""

    def __init__(
        self,
        endpoint: Endpoint,
        repository: str,
        descriptor: oci.Descriptor,
        open_: Open,
        what: str,
        patience: Patience,
        cancelled: threading.Event,
        on_bytes: Callable[[int], object],
    ) -> None:
        self._endpoint, self._repository = endpoint, repository
        self._descriptor, self._open, self._what = descriptor, open_, what
        self._patience, self._cancelled, self._on_bytes = patience, cancelled, on_bytes
        self._whole = False
        self._limit: int | None = None  # bytes of a chunk that the registry finds not too large

    def run(self, session: Session | None, there: Callable[[], bool]) -> None:
        """Send it. session: one that has begun. there: asks whether the registry has it."""
        failure: RegistryError
        for attempt in range(ATTEMPTS):
            try:
                if session is None:
                    session = Session.begin(self._endpoint, self._repository, self._what)
                if session is not None:
                    self._fill(session)
                return
            except ChunksRefused as error:
                failure = error
                self._abandon(session, error)
                if self._limit is not None:
                    raise
                self._whole = True
            except RegistryError as error:
                failure = error
                self._abandon(session, error)
                if not self._smaller(error, session):
                    wait(self._patience, error, self._cancelled)
                    # The answer may have been lost, and not the blob.
                    with contextlib.suppress(RegistryError):
                        if there():
                            return
                    self._whole = attempt > 0 and self._limit is None
            except (VerificationError, OSError):
                if session is not None:
                    session.abandon()
                raise
            session = None
        raise failure

    def _abandon(self, session: Session | None, error: RegistryError) -> None:
        # Where no answer came, none would come to this either.
        if session is not None and error.status and not self._cancelled.is_set():
            session.abandon()

    def _smaller(self, error: RegistryError, session: Session | None) -> bool:
        """Tell whether smaller chunks are worth a try: a proxy may allow so much and no more."""
        if error.status != 413 or session is None or (self._whole and self._limit is None):
            return False
        tried = min(self._limit or session.chunk, self._descriptor.size)
        self._limit = tried // 16
        return self._limit >= SMALLEST

    def _fill(self, session: Session) -> None:
        chunk, size = self._limit or session.chunk, self._descriptor.size
        if size <= min(chunk, LARGEST):
            with self._open() as raw:
                data = _exactly(raw, size, self._what)
                raw.read(1)  # A verified stream speaks at its end.
            session.commit(self._descriptor, data)
            self._on_bytes(size)
        elif self._whole or chunk > LARGEST:
            with contextlib.ExitStack() as opened:
                session.commit(self._descriptor, lambda: self._stream(opened))
        else:
            with self._open() as raw:
                while session.offset < size:
                    count = min(chunk, size - session.offset)
                    self._chunk(session, _exactly(raw, count, self._what))
                raw.read(1)
            session.commit(self._descriptor)

    def _stream(self, opened: contextlib.ExitStack) -> Outgoing:
        raw = opened.enter_context(self._open())
        return Outgoing(raw, self._descriptor.size, self._cancelled, self._on_bytes)

    def _chunk(self, session: Session, data: bytes) -> None:
        start = session.offset
        while (sent := session.offset - start) != len(data):
            if not 0 <= sent < len(data):
                raise LostSession(self._what, f"it has {session.offset} bytes of it")
            if self._cancelled.is_set():
                raise Cancelled("the upload was given up")
            before = session.offset
            try:
                session.send(data[sent:] if sent else data)
                if session.offset <= before:
                    raise LostSession(self._what, "it takes nothing")
                self._patience.progress(session.offset - before)
                self._on_bytes(session.offset - before)
            except RegistryError as error:
                self._recover(session, error)

    def _recover(self, session: Session, error: RegistryError) -> None:
        """Learn how much of a chunk arrived; raises where that chunk cannot be saved."""
        while not isinstance(error, LostSession | ChunksRefused):
            wait(self._patience, error, self._cancelled)
            try:
                session.ask()
                return
            except RegistryError as again:
                error = again
        raise error


def _exactly(raw: BinaryIO, count: int, what: str) -> bytes:
    pieces: list[bytes] = []
    while count and (data := raw.read(count)):
        pieces.append(data)
        count -= len(data)
    if count:
        raise RegistryError(f"{what} ends {count} bytes before its end")
    return b"".join(pieces)
