"""One upload of a blob: its session at the registry, in chunks or at once, up to the commit.

Source: dist-spec, "Pushing blobs". A session's Location may be relative or absolute, on another
host, and with a query of its own, of which nothing may be lost (layers-and-registries.md, 80).
"""

from __future__ import annotations

import contextlib
import re
import threading
from collections.abc import Callable, Iterator
from typing import BinaryIO
from urllib.parse import urljoin, urlsplit

import requests

from assembler.oci import Descriptor
from assembler.reference import is_loopback
from assembler.registries.connections import BROKEN, RegistryError, host_of
from assembler.registries.download import Cancelled
from assembler.registries.endpoint import MAX_ERROR, Data, Endpoint, read_at_most
from assembler.registries.tokens import Scopes, pull, push
from assembler.streams import CHUNK as PIECE

# Bytes of a chunk, and of what goes in one piece: small enough to be kept for another try by
# several uploads at once, and more than the 5 MiB that storage with multipart uploads demands.
CHUNK = 8 << 20
# Seconds for a commit: distribution reads all that was sent once more.
COMMIT = 900.0
OCTETS = "application/octet-stream"


class LostSession(RegistryError):
    """The registry knows nothing of the upload any more, or of another part than we do."""

    def __init__(self, what: str, why: str) -> None:
        super().__init__(f"{what}: the upload is lost ({why})", temporary=True)


class ChunksRefused(RegistryError):
    """The registry does not take blobs in chunks (Google's Artifact Registry does not)."""


class Session:
    """An upload that has begun. offset: bytes that the registry has of it."""

    def __init__(
        self, endpoint: Endpoint, scopes: Scopes, what: str, response: requests.Response
    ) -> None:
        self._endpoint, self._scopes, self._what = endpoint, scopes, what
        self._location = ""
        self.offset = 0
        minimum = response.headers.get("OCI-Chunk-Min-Length", "")
        self.chunk = max(CHUNK, int(minimum)) if minimum.isdecimal() else CHUNK
        self._move(response)

    @classmethod
    def begin(
        cls, endpoint: Endpoint, repository: str, what: str, mount: tuple[str, str] | None = None
    ) -> Session | None:
        """Return a new session, or None where the blob was mounted. Raises RegistryError.

        mount: the blob's digest, and another repository of this registry that may have it.
        """
        scopes, path = push(repository), f"/v2/{repository}/blobs/uploads/"
        if mount is not None:
            digest, origin = mount
            path += f"?mount={digest}&from={origin}"
            scopes += pull(origin)
        with endpoint.send(
            "POST", path, scopes, what, headers={"Content-Length": "0"}, accept=(201, 202)
        ) as response:
            drain(response)
            # 202: it would not mount, and has begun an upload instead.
            return None if response.status_code == 201 else cls(endpoint, scopes, what, response)

    def send(self, data: bytes) -> None:
        """Send the next chunk. Raises RegistryError; then `ask` says what arrived."""
        headers = {
            "Content-Type": OCTETS,
            "Content-Range": f"{self.offset}-{self.offset + len(data) - 1}",
        }
        first = self.offset == 0
        try:
            with self._endpoint.send(
                "PATCH", self._location, self._scopes, self._what,
                headers=headers, data=data, accept=(201, 202, 204, 416),
            ) as response:  # fmt: skip
                drain(response)
        except RegistryError as error:
            if error.status in (400, 405, 501) and not error.temporary:
                raise ChunksRefused(str(error), status=error.status) from None
            raise self._known(error) from None
        if response.status_code == 416:
            raise RegistryError(f"{self._what}: a chunk out of order", status=416, temporary=True)
        end = self._end(response)
        self._move(response)
        if first and end not in (None, len(data)):
            raise ChunksRefused(f"{self._what}: of the first chunk, only {end} bytes were taken")
        self.offset = self.offset + len(data) if end is None else end

    def ask(self) -> None:
        """Ask the registry how much it has; LostSession where it cannot say."""
        try:
            with self._endpoint.send(
                "GET", self._location, self._scopes, self._what, accept=(200, 202, 204)
            ) as response:
                drain(response)
        except RegistryError as error:
            if error.temporary and not error.status:
                raise
            raise LostSession(self._what, f"status {error.status}") from None
        end = self._end(response)
        self._move(response)
        if end is None:
            raise LostSession(self._what, "it does not say how much it has")
        # "0-0" is one byte, or none.
        self.offset = 0 if end == 1 else end

    def commit(self, descriptor: Descriptor, data: Data = b"") -> None:
        """End the upload, with `data` as its last part. Raises RegistryError."""
        parts = urlsplit(self._location)
        joint = "&" if parts.query else "?"
        headers = {"Content-Type": OCTETS}
        try:
            with self._endpoint.send(
                "PUT", f"{self._location}{joint}digest={descriptor.digest}", self._scopes,
                self._what, headers=headers, data=data, accept=(201, 204), patience=COMMIT,
            ) as response:  # fmt: skip
                drain(response)
        except RegistryError as error:
            if error.status == 400:
                # DIGEST_INVALID: what arrived is not what was sent.
                raise LostSession(self._what, str(error)) from None
            raise self._known(error) from None

    def abandon(self) -> None:
        """Let the registry forget what it has; nothing depends on its doing so."""
        with (
            contextlib.suppress(RegistryError),
            self._endpoint.send(
                "DELETE", self._location, self._scopes, self._what, accept=range(200, 600)
            ) as response,
        ):
            drain(response)

    def _known(self, error: RegistryError) -> RegistryError:
        if error.status in (404, 416):
            return LostSession(self._what, f"status {error.status}")
        return error

    def _move(self, response: requests.Response) -> None:
        """Go on where the answer says, which is a new place after each chunk."""
        given = response.headers.get("Location")
        if given is None:
            if not self._location:
                raise RegistryError(f"{self._what}: {self._endpoint.registry} begins no upload")
            return
        base = self._endpoint.base
        url = urljoin(self._location or response.url, given).partition("#")[0]
        scheme, host = urlsplit(url)[:2]
        if scheme == "http" and base.startswith("https:") and not is_loopback(host):
            if host != host_of(base):
                raise RegistryError(
                    f"{self._endpoint.registry} would have {self._what} sent to {host} over plain "
                    "HTTP, which is not safe"
                )
            # A proxy took the TLS off before the registry, which does not know it.
            url = "https" + url.removeprefix("http")
        self._location = url

    @staticmethod
    def _end(response: requests.Response) -> int | None:
        """Return how many bytes the registry says it has; None where it does not say."""
        match = re.fullmatch(r"(?:bytes=)?0-(\d{1,18})", response.headers.get("Range", ""))
        return int(match[1]) + 1 if match else None


class Outgoing:
    """A blob on its way, of a known length; requests streams whatever has `__iter__`.

    on_bytes: told of each piece. cancelled: ends it.
    """

    def __init__(
        self,
        raw: BinaryIO,
        size: int,
        cancelled: threading.Event,
        on_bytes: Callable[[int], object],
    ) -> None:
        self._raw, self._size = raw, size
        self._cancelled, self._on_bytes = cancelled, on_bytes

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[bytes]:
        return iter(self.read, b"")

    def read(self, size: int = PIECE) -> bytes:
        """Return the next piece. Raises what reading it raises, which no retry here helps."""
        if self._cancelled.is_set():
            raise Cancelled("the upload was given up")
        try:
            data = self._raw.read(size)
        except RegistryError as error:
            error.temporary = False
            raise
        self._on_bytes(len(data))
        return data


def drain(response: requests.Response) -> None:
    """Read what is left of an answer, so that its connection serves again."""
    try:
        read_at_most(response, MAX_ERROR)
    except BROKEN:
        response.close()
