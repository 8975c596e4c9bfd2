"""The Engine's `docker save` stream, taken apart as it passes by."""

from __future__ import annotations

import io
import re
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote

from assembler.engine import LONG, engine_errors
from assembler.errors import SourceError
from assembler.sources import T
from assembler.sources.members import DOCUMENT
from assembler.sources.stored import compression
from assembler.streams import CHUNK

_BLOB = re.compile(r"blobs/sha256/([0-9a-f]{64})")


@contextmanager
def save_stream(
    client: Any, image_id: str, reference: str, on_bytes: Callable[[int], None]
) -> Iterator[Iterator[Member]]:
    """Ask for an image and give its layers and documents in the order in which they come.

    A member is to be read before the next one is asked for, as far as it is wanted.
    Raises EngineError where the connection breaks and SourceError where the stream does.
    """
    doing = f"reading {reference}"
    url = f"{client.base_url}/v{client.api_version}/images/{quote(image_id)}/get"
    with engine_errors(doing):
        response = client.get(
            url, stream=True, timeout=LONG, headers={"Accept-Encoding": "identity"}
        )
    try:
        if response.status_code != 200:
            with engine_errors(doing):
                text = response.json().get("message")
            raise SourceError(f"{doing}: the Engine says: {text}")
        yield _members(_Body(response.raw, doing, on_bytes), doing)
    finally:
        response.close()


def _members(body: _Body, doing: str) -> Iterator[Member]:
    tar = _guarded(doing, lambda: tarfile.open(fileobj=body, mode="r|", bufsize=CHUNK))  # type: ignore[call-overload]  # noqa: SIM115
    while (info := _guarded(doing, tar.next)) is not None:
        if not info.isreg():
            continue  # Layers that are links to equal ones: known by their diff_id.
        member = Member(info, tar.extractfile(info), doing)
        if member.is_layer or info.size <= DOCUMENT:
            yield member
    # What follows the end mark: whether the answer ended well is known at its end only.
    while body.read(CHUNK):
        pass


class Member(io.RawIOBase):
    """A layer or a document, read once. That it ends early is told as the Engine's fault.

    digest: of the bytes as stored, where the path names it. head: its first bytes, which a
        reader gets again.
    """

    def __init__(self, info: tarfile.TarInfo, file: Any, doing: str) -> None:
        self.path, self._file, self._doing = info.name, file, doing
        match = _BLOB.fullmatch(info.name)
        self.digest = f"sha256:{match[1]}" if match else None
        self.head = _guarded(doing, lambda: bytes(file.peek(tarfile.BLOCKSIZE)))
        self.is_layer = info.name.endswith("/layer.tar")
        if self.digest:
            # A tar begins with a header, or with the zeros of its end when it is empty.
            head = self.head[: tarfile.BLOCKSIZE]
            is_tar = head[257:262] == b"ustar" or not head.strip(b"\0")
            self.is_layer = bool(compression(head)) or is_tar

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        return _guarded(self._doing, lambda: bytes(self._file.read(size)))


class _Body:
    """The body of the Engine's answer."""

    def __init__(self, raw: Any, doing: str, on_bytes: Callable[[int], None]) -> None:
        self._raw, self._doing, self._on_bytes = raw, doing, on_bytes

    def read(self, size: int) -> bytes:
        with engine_errors(self._doing):
            data: bytes = self._raw.read(size, decode_content=False)
        self._on_bytes(len(data))
        return data


def _guarded(doing: str, step: Callable[[], T]) -> T:
    try:
        return step()
    except tarfile.ReadError:
        raise SourceError(
            f"{doing}: the Engine ended its stream in the middle; "
            "look into its log, then run this again"
        ) from None
