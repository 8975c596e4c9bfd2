"""Points in a gzip stream, where inflating can begin.

Deflate has no such places of its own: what follows refers to the 32 KiB before it, and a block
begins at any bit. A point is therefore two offsets, a number of bits, and these 32 KiB, as in
zlib's examples/zran.c. Only zlib's own interface tells of block boundaries (RFC 1951, Z_BLOCK),
and Python's zlib module does not pass that on, hence ctypes; it is used for recording alone.
"""

from __future__ import annotations

import ctypes
from bisect import bisect_left, bisect_right
from collections import deque
from typing import Any

from isal import isal_zlib

from assembler.errors import AssemblerError
from assembler.seeking.points import GZIP, SPACING, Point, Recorder

WINDOW = 32768
# Bytes of tar for which windows are held: the reader is behind the inflater by less than this.
_BEHIND = 4 << 20
# Bytes of tar, and of the blob, that cost less to inflate and to fetch in passing than a window
# costs to keep; and how much tar one point may serve, so that no file is far from one.
_GAP, _PACKED_GAP, _STRIDE = 1 << 19, 1 << 16, 1 << 22
_Z_BLOCK, _Z_OK, _Z_STREAM_END, _Z_BUF_ERROR = 5, 0, 1, -5


class _Stream(ctypes.Structure):
    """z_stream of zlib.h."""

    _fields_ = (
        ("next_in", ctypes.c_void_p),
        ("avail_in", ctypes.c_uint),
        ("total_in", ctypes.c_ulong),
        ("next_out", ctypes.c_void_p),
        ("avail_out", ctypes.c_uint),
        ("total_out", ctypes.c_ulong),
        ("msg", ctypes.c_char_p),
        ("state", ctypes.c_void_p),
        ("zalloc", ctypes.c_void_p),
        ("zfree", ctypes.c_void_p),
        ("opaque", ctypes.c_void_p),
        ("data_type", ctypes.c_int),
        ("adler", ctypes.c_ulong),
        ("reserved", ctypes.c_ulong),
    )


def _library() -> Any:
    try:
        library = ctypes.CDLL("libz.so.1")
    except OSError:
        raise AssemblerError(
            "an index needs zlib's library (libz.so.1), which this machine has not: install it "
            "(Debian: zlib1g), or leave out --index"
        ) from None
    library.zlibVersion.restype = ctypes.c_char_p
    return library


class DeflateRecorder(Recorder):
    """Inflates one gzip blob and notes its block boundaries on the way.

    Has the methods of `compression.zstd.ZstdDecompressor`; several members of a blob pass through
    one recorder, so that its offsets are those of the whole blob. A span ends, and may begin, at
    one of the boundaries.
    """

    compression = GZIP

    def __init__(self) -> None:
        super().__init__()
        self._zlib, self._stream = _library(), _Stream()
        size = ctypes.sizeof(_Stream)
        if self._zlib.inflateInit2_(ctypes.byref(self._stream), 31, self._zlib.zlibVersion(), size):
            raise MemoryError
        self._input = self._buffer = b""
        self._used = 0  # bytes of _input that are inflated
        self._out = ctypes.create_string_buffer(WINDOW)
        self._before = 0  # bytes of history at the start of _out
        self.eof, self.unused_data, self.needs_input = False, b"", True
        self.packed = self.plain = 0
        self.boundaries: list[tuple[int, int, int]] = []  # (plain, packed, bits)
        self._windows: deque[tuple[int, bytes]] = deque()
        self._wanted = self._pinned = 0  # ends of what was pinned last

    def decompress(self, data: bytes, limit: int) -> bytes:
        """Return up to `limit` bytes more; ValueError for what is damaged."""
        if self.eof:  # The next member of the same blob.
            self._zlib.inflateReset(ctypes.byref(self._stream))
            self.eof, self.unused_data, self._input, self._used = False, b"", b"", 0
        if data:
            self._input, self._used = self._input[self._used :] + data, 0
        if len(self._out) != WINDOW + limit:
            self._resize(limit)
        stream, done = self._stream, 0
        source = ctypes.cast(ctypes.c_char_p(self._input), ctypes.c_void_p).value or 0
        target = ctypes.addressof(self._out) + self._before
        while done < limit and not self.eof:
            stream.next_in, stream.avail_in = source + self._used, len(self._input) - self._used
            stream.next_out, stream.avail_out = target + done, limit - done
            status = self._zlib.inflate(ctypes.byref(stream), _Z_BLOCK)
            took = len(self._input) - self._used - stream.avail_in
            gave = limit - done - stream.avail_out
            self._used, self.packed = self._used + took, self.packed + took
            done, self.plain = done + gave, self.plain + gave
            if status == _Z_STREAM_END:
                self.eof, self.unused_data = True, self._input[self._used :]
            elif status not in (_Z_OK, _Z_BUF_ERROR):
                raise ValueError((stream.msg or b"damaged").decode())
            elif stream.data_type & 128 and not stream.data_type & 64:
                self._note(stream.data_type & 7, done)
            if not took and not gave and not self.eof:
                break
        self.needs_input = self._used == len(self._input)
        return self._taken(done)

    def _resize(self, limit: int) -> None:
        history = self._out.raw[: self._before]
        self._out = ctypes.create_string_buffer(history, WINDOW + limit)

    def _taken(self, done: int) -> bytes:
        """Return the new bytes, and move the last of all to the front: the next ones' history."""
        start = ctypes.addressof(self._out)
        data = ctypes.string_at(start + self._before, done)
        end = self._before + done
        keep = min(end, WINDOW)
        ctypes.memmove(start, start + end - keep, keep)
        self._before = keep
        return data

    def _note(self, bits: int, done: int) -> None:
        if self.boundaries and self.plain - self.boundaries[-1][0] < SPACING:
            return
        self.boundaries.append((self.plain, self.packed, bits))
        end = self._before + done
        start = ctypes.addressof(self._out) + max(0, end - WINDOW)
        self._windows.append((self.plain, ctypes.string_at(start, min(end, WINDOW))))
        while self._windows[0][0] < self.plain - _BEHIND:
            self._windows.popleft()

    def pin(self, plain: int, size: int) -> None:
        """Keep a point, with its window, unless one that is near will do.

        What lies close behind other bytes that are wanted needs none of its own.
        """
        at, before = self._boundary(plain), self._boundary(self._wanted)
        near = plain - self._wanted <= _GAP and plain - self._pinned <= _STRIDE
        self._wanted = plain + size
        if at < 0:
            return
        where, packed, bits = self.boundaries[at]
        if near and self.points and packed - self.boundaries[before][1] <= _PACKED_GAP:
            return
        self._pinned = plain
        if where not in self.points:
            window = next((w for each, w in self._windows if each == where), None)
            if window is not None:
                self.points[where] = Point(packed, bits, where, window)

    def _boundary(self, plain: int) -> int:
        """Return the number of the last boundary at or before a place in the tar; -1 for none."""
        return bisect_right(self.boundaries, (plain, 1 << 62, 0)) - 1

    def end_of(self, plain: int) -> int:
        at = bisect_left(self.boundaries, (plain, 0, 0))
        return self.boundaries[at][1] if at < len(self.boundaries) else self.packed


# An empty block of the fixed code, and one with a code of its own that ends after an odd number
# of bits (RFC 1951, 3.2.6 and 3.2.7): bit by bit, as they stand in the stream.
_FIXED = "0" + "10" + "0000000"
_CODES = {18: 1, 1: 1}  # of the code length code: runs of zeros, and the length 1
_ORDER = (16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1)


def _number(value: int, width: int) -> str:
    """Return a number as deflate writes it, its lowest bit first."""
    return f"{value:0{width}b}"[::-1]


_DYNAMIC = (
    "0" + "01" + _number(0, 5) + _number(0, 5) + _number(len(_ORDER) - 4, 4)
    + "".join(_number(_CODES.get(each, 0), 3) for each in _ORDER)
    # Two codes of one bit, sorted by symbol: 0 is length 1, 1 is a run of zeros. Literal 0 and
    # the end of block have codes, the 255 literals between have none; then one distance code.
    + "0" + "1" + _number(138 - 11, 7) + "1" + _number(117 - 11, 7) + "0" + "0"
    + "1"  # the end of block, the second of two codes
)  # fmt: skip


class Resumed:
    """Inflates from a point on, with an inflater that knows nothing of bits.

    The bits before the point, in the byte that it shares, are replaced by empty blocks that end
    at just that bit.
    """

    def __init__(self, point: Point) -> None:
        self._stream = isal_zlib.decompressobj(-15, zdict=point.window)
        self._bits = point.bits
        self._first = bool(point.bits)

    def decompress(self, data: bytes) -> bytes:
        """Return what `data` inflates to: the blob's bytes from the shared one on."""
        if self._first and data:
            self._first = False
            data = _lead_in(8 - self._bits, data[0]) + data[1:]
        out: bytes = self._stream.decompress(data)
        return out

    @property
    def eof(self) -> bool:
        """Whether the member has ended; more may follow it."""
        return bool(self._stream.eof)

    @property
    def unused_data(self) -> bytes:
        """What came after the member's deflate stream: its trailer, and what follows."""
        return bytes(self._stream.unused_data)


def _lead_in(taken: int, shared: int) -> bytes:
    """Return empty blocks whose last byte has `taken` bits of theirs, then those of `shared`."""
    bits = _DYNAMIC if taken % 2 else ""
    while len(bits) % 8 != taken:
        bits += _FIXED
    whole, rest = divmod(len(bits), 8)
    lead = bytes(int(bits[at : at + 8][::-1], 2) for at in range(0, whole * 8, 8))
    last = int(bits[-rest:][::-1], 2) | (shared >> taken << taken)
    return lead + bytes([last])
