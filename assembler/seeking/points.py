"""Places in a blob where reading can begin: noted while it is read, used later.

A plain tar has one at every byte, zstd one at every frame (RFC 8878, 3.1), and deflate none that
would do without help (see `deflate`).
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from typing import NamedTuple

from assembler import zstd

GZIP, ZSTD, PLAIN = "gzip", "zstd", "none"
# Bytes of tar between the places that are noted.
SPACING = 1 << 15


class Point(NamedTuple):
    """Reading may begin at byte `packed` of the blob; what comes is byte `plain` of the tar.

    bits: how many of the byte before `packed` belong to it. window: the tar's bytes before, as
    far as what comes refers to them.
    """

    packed: int
    bits: int
    plain: int
    window: bytes


class Recorder:
    """The points of one blob, which is being read. This one is for a plain tar.

    `pin` says of which places points are wanted. compression: of the blob.
    """

    compression = PLAIN

    def __init__(self) -> None:
        self.points: dict[int, Point] = {}

    def pin(self, plain: int, _size: int) -> None:
        """Keep a point for `_size` bytes at this offset of the tar, which are about to be read."""
        self.points[plain] = Point(plain, 0, plain, b"")

    def end_of(self, plain: int) -> int:
        """Return how far the blob must be read for this much of the tar; after all was read."""
        return plain


class FrameRecorder(Recorder):
    """Inflates one zstd blob, frame by frame, and notes where frames begin.

    Has the methods of `compression.zstd.ZstdDecompressor`; all frames of a blob pass through it.
    """

    compression = ZSTD

    def __init__(self) -> None:
        super().__init__()
        self._frame = zstd.ZstdDecompressor()
        self._packed = self._plain = 0  # bytes taken in, and given out
        self._starts = [(0, 0)]  # of frames: (plain, packed)
        self._ends: list[tuple[int, int]] = []  # so much came out of so much

    def decompress(self, data: bytes, limit: int) -> bytes:
        """Return up to `limit` bytes more; ZstdError for what is damaged."""
        if self._frame.eof:
            self._frame = zstd.ZstdDecompressor()
            self._starts.append((self._plain, self._packed))
        self._packed += len(data)
        out: bytes = self._frame.decompress(data, limit)
        self._plain += len(out)
        if self._frame.eof:
            self._packed -= len(self._frame.unused_data)
        if not self._ends or self._plain - self._ends[-1][0] >= SPACING:
            self._ends.append((self._plain, self._packed))
        return out

    @property
    def eof(self) -> bool:
        """Whether the frame has ended."""
        return bool(self._frame.eof)

    @property
    def needs_input(self) -> bool:
        """Whether nothing more comes out of what was given."""
        return bool(self._frame.needs_input)

    @property
    def unused_data(self) -> bytes:
        """What came after the frame."""
        return bytes(self._frame.unused_data)

    def pin(self, plain: int, _size: int) -> None:
        where, packed = self._starts[bisect_right(self._starts, (plain, 1 << 62)) - 1]
        self.points[where] = Point(packed, 0, where, b"")

    def end_of(self, plain: int) -> int:
        at = bisect_left(self._ends, (plain, 0))
        return self._ends[at][1] if at < len(self._ends) else self._packed
