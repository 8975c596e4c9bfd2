"""Streams that verify what passes through them, and inflate it.

Nothing downstream of a `LayerStream` checks digests, and nothing can forget to: closing a
layer drains it and raises unless every byte agreed.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable
from typing import Any, BinaryIO

from isal import igzip_lib

from assembler import zstd
from assembler.errors import VerificationError
from assembler.seeking.deflate import DeflateRecorder
from assembler.seeking.points import FrameRecorder, Recorder

CHUNK = 1 << 20
# What is read at once: what was inflated is hashed and walked while the processor still has it.
BLOCK = 1 << 18
GZIP = b"\x1f\x8b"
# A skippable frame (0x184D2A5?) may come first, as in zstd:chunked layers.
ZSTD = tuple([b"\x28\xb5\x2f\xfd"] + [bytes([n]) + b"\x2a\x4d\x18" for n in range(0x50, 0x60)])

_BROKEN: Any = (igzip_lib.error, zstd.ZstdError, EOFError, ValueError)


def _inflater(magic: bytes) -> Callable[[], Any] | None:
    """Choose by the bytes themselves: media types lie (go-containerregistry #1203).

    What is returned makes one for each member or frame; all have the methods of
    `compression.zstd.ZstdDecompressor`.
    """
    if magic.startswith(GZIP):
        return lambda: igzip_lib.IgzipDecompressor(flag=igzip_lib.DECOMP_GZIP)
    if magic.startswith(ZSTD):
        return zstd.ZstdDecompressor
    return None


class Readable(io.RawIOBase):
    """A stream that is made by saying how to `read`."""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self.read(len(buffer))
        assert data is not None
        buffer[: len(data)] = data
        return len(data)


class Part(Readable):
    """The next `size` bytes of `source`."""

    def __init__(self, source: Readable | BinaryIO, size: int) -> None:
        self._source, self._left = source, size

    def read(self, size: int = -1) -> bytes:
        if size is None or size < 0:
            size = self._left
        data = self._source.read(min(size, self._left)) if self._left else b""
        self._left -= len(data)
        return data


class VerifiedReader(Readable):
    """Reads a blob of which digest and size are known; either may be None, when it is not.

    Raises VerificationError at the end of the blob (or as soon as it is too long) that says
    what was expected, what came, and `what` it was.
    """

    def __init__(self, raw: BinaryIO, what: str, digest: str | None, size: int | None) -> None:
        self._raw, self._what, self._digest, self._size = raw, what, digest, size
        self._hash = hashlib.sha256()
        self._done = False
        self.count = 0

    def read(self, size: int = -1) -> bytes:
        if size is None or size < 0:
            return b"".join(iter(lambda: self.read(CHUNK), b""))
        if size == 0 or self._done:
            return b""
        data = self._raw.read(size)
        if not data:
            self._done = True
            self._check()
            return b""
        self.count += len(data)
        self._hash.update(data)
        if self._size is not None and self.count > self._size:
            raise VerificationError(f"{self._what} is longer than its {self._size} bytes")
        return data

    def _check(self) -> None:
        if self._size is not None and self.count != self._size:
            raise VerificationError(f"{self._what} ended after {self.count} of {self._size} bytes")
        if self._digest is not None and self.digest != self._digest:
            raise VerificationError(
                f"{self._what} has digest {self.digest}, expected {self._digest}"
            )

    @property
    def digest(self) -> str:
        """Digest of all that was read so far."""
        return "sha256:" + self._hash.hexdigest()


class InflatingReader(Readable):
    """Reads gzip (of any number of members), zstd (of any frames) or plain bytes as plain bytes.

    Raises VerificationError for data that is damaged or stops in the middle; a
    decompressor that is merely out of input raises nothing by itself.
    """

    def __init__(self, raw: BinaryIO | VerifiedReader, what: str) -> None:
        self._raw, self._what = raw, what
        self._input = b""
        while len(self._input) < 4 and (more := raw.read(CHUNK)):
            self._input += more
        self._factory = _inflater(self._input)
        self._stream: Any = self._factory() if self._factory else None

    def record(self) -> Recorder:
        """Note seek points, from before the first read on."""
        if self._factory is None:
            return Recorder()
        recorder = DeflateRecorder() if self._input.startswith(GZIP) else FrameRecorder()
        self._stream, self._factory = recorder, lambda: recorder
        return recorder

    def read(self, size: int = -1) -> bytes:
        if size is None or size < 0:
            return b"".join(iter(lambda: self.read(CHUNK), b""))
        if size == 0:
            return b""
        if self._factory is None:
            data, self._input = self._input[:size], self._input[size:]
            return data or self._raw.read(size) or b""
        try:
            return self._inflate(size)
        except _BROKEN as error:
            raise VerificationError(f"{self._what} cannot be inflated: {error}") from None

    def _inflate(self, size: int) -> bytes:
        while True:
            if self._stream.eof:
                # Some writers pad the file with zeros after the last member.
                rest = self._stream.unused_data.lstrip(b"\0")
                while not rest:
                    more = self._raw.read(BLOCK)
                    if not more:
                        return b""
                    rest = more.lstrip(b"\0")
                assert self._factory is not None
                self._stream, self._input = self._factory(), rest
            elif not self._input and self._stream.needs_input:
                self._input = self._raw.read(BLOCK) or b""
                if not self._input:
                    raise EOFError("the compressed data stops in the middle")
            data, self._input = self._input, b""
            out: bytes = self._stream.decompress(data, size)
            if out:
                return out


class LayerStream(Readable):
    """A layer as uncompressed tar bytes, verified against blob digest, size and diff_id.

    raw: the blob as stored. digest, size: of the blob, or None where there is none to check.
    diff_id: of the tar, or None where it becomes known only later (see `actual_diff_id`).
    what: names the layer in errors.
    """

    def __init__(
        self,
        raw: BinaryIO,
        what: str,
        *,
        digest: str | None = None,
        size: int | None = None,
        diff_id: str | None = None,
    ) -> None:
        self.what = what
        self._blob = VerifiedReader(raw, what, digest, size)
        self._plain = InflatingReader(self._blob, what)
        self._tar = VerifiedReader(self._plain, f"{what}, uncompressed,", diff_id, None)  # type: ignore[arg-type]

    def read(self, size: int = -1) -> bytes:
        return self._tar.read(size)

    def record(self) -> Recorder:
        """Note seek points while it is read; see InflatingReader.record."""
        return self._plain.record()

    def finish(self) -> None:
        """Read to the very end, where digests are checked (go-containerregistry, mutate.go)."""
        while self._tar.read(BLOCK):
            pass
        while self._blob.read(BLOCK):
            pass

    @property
    def actual_diff_id(self) -> str:
        """Digest of the uncompressed bytes; the layer's diff_id once it is finished."""
        return self._tar.digest

    @property
    def actual_digest(self) -> str:
        """Digest of the bytes as stored, once finished."""
        return self._blob.digest

    @property
    def blob_bytes(self) -> int:
        """Bytes of the blob read so far."""
        return self._blob.count


class Forward:
    """A stream that tarfile takes for a file it can seek in, as long as it seeks forward.

    Skipping is counting: what lies between is read, hashed and never copied, which is most of a
    full image. (tarfile's own stream mode copies all of it.)
    """

    def __init__(self, stream: BinaryIO | LayerStream) -> None:
        self._stream = stream
        self._block, self._at = b"", 0
        self._before = 0  # bytes that came before the block
        self._last = b""  # the last one of these, for the one step back

    def tell(self) -> int:
        """Return the position, in bytes."""
        return self._before + self._at

    def seek(self, position: int, _whence: int = 0) -> int:
        """Go forward to `position`; at the most one byte back, as tarfile does to find the end."""
        while position > self._before + len(self._block):
            if not self._more():
                break
        if position == self._before - 1 and self._last:
            self._block, self._before, self._last = self._last + self._block, position, b""
        if position < self._before:
            raise ValueError(f"cannot go back to byte {position}")
        self._at = min(position - self._before, len(self._block))
        return self.tell()

    def read(self, size: int) -> bytes:
        """Return `size` bytes, fewer only at the end."""
        end = self._at + size
        if end <= len(self._block):
            data, self._at = self._block[self._at : end], end
            return data
        parts: list[bytes] = []
        while size > 0:
            if self._at == len(self._block) and not self._more():
                break
            piece = self._block[self._at : self._at + size]
            self._at += len(piece)
            size -= len(piece)
            parts.append(piece)
        return b"".join(parts)

    def _more(self) -> bool:
        data = self._stream.read(BLOCK)
        if not data:
            return False
        self._before += len(self._block)
        self._last = self._block[-1:] or self._last
        self._block, self._at = data, 0
        return True
