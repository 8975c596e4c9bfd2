"""Files out of spans of blobs, several at once, each checked against its recorded digest."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Protocol, TypeVar

from isal import isal_zlib

from assembler.errors import VerificationError
from assembler.layers import Content, Spool
from assembler.seeking.deflate import Resumed
from assembler.seeking.index import SeekIndex, Span
from assembler.seeking.points import GZIP, ZSTD, Point
from assembler.streams import CHUNK, InflatingReader, Part, Readable

T = TypeVar("T")

WORKERS = 4
_PIECE = 1 << 17
_BROKEN: Any = (isal_zlib.error, VerificationError)


class Stale(VerificationError):
    """The index is not of these blobs: a file is not what it says."""


class Ranged(Protocol):
    """A source that gives parts of layers as they are stored."""

    digests: tuple[str | None, ...]

    def read_spans(
        self, parts: Sequence[tuple[int, int, int]], visit: Callable[[int, BinaryIO], T]
    ) -> list[T]:
        """Hand parts of layers' blobs to `visit`, several at once; return what it gives for each.

        parts: the number of a layer, the first byte, and the one after the last. visit: gets the
        number of the part, too. The first failure, or Ctrl-C, ends the others at once.
        Raises NoRanges where a part is not to be had, and SourceError.
        """
        ...


def fetch(
    source: Ranged, index: SeekIndex, wanted: Mapping[int, Iterable[str]], folder: Path
) -> dict[tuple[int, str], Content]:
    """Return the contents of `wanted` (file names by number of layer), as far as they are indexed.

    Raises Stale, NoRanges, SourceError.
    """
    work: list[tuple[int, Span]] = []
    for number, names in wanted.items():
        layer = index.layers.get(source.digests[number] or "")
        spans = layer.spans(names) if layer is not None else None
        work += [(number, span) for span in spans or ()]
    # The longest first, so that none is left to be read alone at the end.
    work.sort(key=lambda each: each[1].start - each[1].end)

    # Few files, since the cache keeps each of them; none with bytes of two layers.
    spools: list[Spool] = []
    idle: dict[int, list[Spool]] = defaultdict(list)

    def visit(at: int, raw: BinaryIO) -> dict[str, Content]:
        number, span = work[at]
        try:
            spool = idle[number].pop()
        except IndexError:
            spool = Spool(folder / f"{number}-{at}")
            spools.append(spool)
        found = _files(raw, span, spool)
        idle[number].append(spool)
        return found

    parts = [(number, span.start, span.end) for number, span in work]
    try:
        contents = source.read_spans(parts, visit)
    finally:
        for spool in spools:
            spool.close()
    return {
        (number, name): content
        for (number, _), found in zip(work, contents, strict=True)
        for name, content in found.items()
    }


def _files(raw: BinaryIO, span: Span, spool: Spool) -> dict[str, Content]:
    tar = _Tar(raw, span)
    found: dict[str, Content] = {}
    for name, place in span.files:
        tar.skip_to(place.offset)
        content = spool.write(tar.part(place.size))  # type: ignore[arg-type]
        if (content.size, content.sha256) != (place.size, place.sha256):
            raise Stale(f"{name} has sha256 {content.sha256}, the index says {place.sha256}")
        found[name] = content
    return found


class _Tar(Readable):
    """The tar from a point on."""

    def __init__(self, raw: BinaryIO, span: Span) -> None:
        self._stream, self._at = _plain(raw, span), span.point.plain

    def read(self, size: int = CHUNK) -> bytes:
        """Return up to `size` bytes, none at the end. Stale for what does not inflate."""
        try:
            data: bytes = self._stream.read(size)
        except _BROKEN as error:
            raise Stale(f"a span does not inflate: {error}") from None
        self._at += len(data)
        return data

    def skip_to(self, offset: int) -> None:
        """Go forward to this byte of the tar."""
        while self._at < offset and self.read(min(CHUNK, offset - self._at)):
            pass

    def part(self, size: int) -> Part:
        """Return the next `size` bytes as a stream."""
        return Part(self, size)


def _plain(raw: BinaryIO, span: Span) -> Any:
    if span.compression == GZIP:
        return _Deflated(raw, span.point)
    # A zstd frame begins like a blob of its own; the bytes of a plain tar may look like anything.
    return InflatingReader(raw, "it") if span.compression == ZSTD else raw


class _Deflated:
    """What a gzip stream inflates to, from a point on."""

    def __init__(self, raw: BinaryIO, point: Point) -> None:
        self._raw = raw
        self._inflate: Any = Resumed(point)
        self._block, self._used = b"", 0  # what was inflated last, and how much of it was read
        self._trailer = 8  # bytes of it that follow deflate's stream (RFC 1952)

    def read(self, size: int) -> bytes:
        while self._used == len(self._block):
            data = self._next_member() if self._inflate.eof else self._raw.read(_PIECE)
            if not data:
                return b""
            self._block, self._used = self._inflate.decompress(data), 0
        data = self._block[self._used : self._used + size]
        self._used += len(data)
        return data

    def _next_member(self) -> bytes:
        """Return the start of the member that follows, with an inflater for it; empty for none."""
        data: bytes = self._inflate.unused_data
        # A read may end anywhere, within the trailer too.
        while len(data) <= self._trailer and (more := self._raw.read(_PIECE)):
            data += more
        data = data[self._trailer :]
        if data:
            self._inflate, self._trailer = isal_zlib.decompressobj(31), 0
        return data
