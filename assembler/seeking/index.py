"""The seek index of an image: what its layers list, and where in their blobs the wanted bytes lie.

With it, a first build fetches spans of blobs instead of whole ones. It is a by-product of one
full read (`--index`), good for the blobs of these digests alone. What it says of files is
checked, file by file, against the sha256 that the full read recorded; what it says of names is
believed of whoever made it, as one believes the maker of an image.
"""

from __future__ import annotations

import base64
import json
import threading
from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

from assembler import zstd
from assembler.caching import layercache
from assembler.errors import SourceError
from assembler.layers import Layer
from assembler.seeking.deflate import WINDOW
from assembler.seeking.points import GZIP, PLAIN, ZSTD, Point, Recorder
from assembler.sources import Source

TYPE = "application/vnd.triton-assembler.index.v1+json+zstd"
_FORM = 2
_LARGEST = 512 << 20  # bytes of an index when inflated; the largest seen have some 20 MB
# Bytes of a blob that are fetched in passing rather than asked for around.
_NEAR = 1 << 16


class Place(NamedTuple):
    """Where a file's bytes lie: offset and size in the tar; end: how much of the blob they need."""

    offset: int
    size: int
    sha256: str
    end: int


@dataclass(frozen=True)
class Span:
    """Bytes `start` to `end` of a blob, which from `point` on inflate to these files."""

    compression: str
    point: Point
    start: int
    end: int
    files: tuple[tuple[str, Place], ...]


@dataclass(frozen=True)
class IndexedLayer:
    """One layer: its listing, the places of files in it, the points to begin at."""

    diff_id: str
    compression: str
    listing: Layer
    files: dict[str, Place]
    points: tuple[Point, ...]

    def spans(self, names: Iterable[str]) -> list[Span] | None:
        """Return what to fetch for these files; None where one of them is not in the index."""
        try:
            places = sorted((self.files[name], name) for name in names)
        except KeyError:
            return None
        starts = [point.plain for point in self.points]
        groups: list[tuple[Point, list[tuple[str, Place]]]] = []
        end = -1
        for place, name in places:
            at = bisect_right(starts, place.offset) - 1
            if at < 0:
                return None
            if groups and self.points[at].packed <= end + _NEAR:
                groups[-1][1].append((name, place))
            else:
                groups.append((self.points[at], [(name, place)]))
            end = max(end, place.end)
        return [
            Span(
                self.compression,
                point,
                point.packed - bool(point.bits),
                max(place.end for _, place in files),
                tuple(files),
            )
            for point, files in groups
        ]


@dataclass(frozen=True)
class SeekIndex:
    """The index of one image, by the digests of its layers' blobs."""

    layers: dict[str, IndexedLayer]

    def listing(self, diff_id: str, digest: str | None) -> Layer | None:
        """Return what the layer of this blob lists, or None where it is not indexed."""
        found = self.layers.get(digest or "")
        return found.listing if found is not None and found.diff_id == diff_id else None

    def listed(self, source: Source) -> set[str]:
        """Return the digests of the layers of `source` that are indexed."""
        pairs = zip(source.diff_ids, source.digests, strict=True)
        return {digest for diff_id, digest in pairs if digest and self.listing(diff_id, digest)}


class Making:
    """An index in the making: threads add to it."""

    def __init__(self) -> None:
        self._layers: dict[str, IndexedLayer] = {}
        self._lock = threading.Lock()

    def add(self, digest: str, diff_id: str, layer: Layer, recorder: Recorder) -> None:
        """Add a layer that was read to its end through `recorder`, once more or for the first time.

        digest: of its blob. Base and full image may share a layer, of which each wants other files.
        """
        files = {
            name: Place(
                offset, content.size, content.sha256, recorder.end_of(offset + content.size)
            )
            for name, offset in layer.offsets.items()
            if (content := layer.contents.get(name)) is not None
        }
        points = {point.plain: point for point in recorder.points.values()}
        with self._lock:
            if before := self._layers.get(digest):
                files |= before.files
                points |= {point.plain: point for point in before.points}
            ordered = tuple(points[plain] for plain in sorted(points))
            self._layers[digest] = IndexedLayer(
                diff_id, recorder.compression, layer, files, ordered
            )

    def made(self) -> SeekIndex:
        """Return the index."""
        return SeekIndex(self._layers)


def dump(index: SeekIndex) -> bytes:
    """Return the index as a file."""

    def point(each: Point) -> list[Any]:
        return [each.packed, each.bits, each.plain, base64.b64encode(each.window).decode()]

    document = {
        "form": _FORM,
        "layers": {
            digest: {
                "diff_id": layer.diff_id,
                "compression": layer.compression,
                "listing": layercache.document(layer.listing),
                "files": layer.files,
                "points": [point(each) for each in layer.points],
            }
            for digest, layer in sorted(index.layers.items())
        },
    }
    text = json.dumps(document, separators=(",", ":"), sort_keys=True)
    return zstd.compress(text.encode(), level=9)


def _place(offset: int, size: int, sha256: str, end: int) -> Place:
    return Place(_count(offset), _count(size), str(sha256), _count(end))


def _point(packed: int, bits: int, plain: int, window: str) -> Point:
    if _count(bits) > 7 or bits > _count(packed):
        raise ValueError(f"a point at bit {bits}")
    return Point(packed, bits, _count(plain), base64.b64decode(window)[-WINDOW:])


def _count(value: int) -> int:
    if type(value) is not int or value < 0:
        raise ValueError(f"{value!r} is no number of bytes")
    return value


def _layer(document: dict[str, Any]) -> IndexedLayer:
    listing = layercache.from_document(document["listing"])
    files = {name: _place(*place) for name, place in document["files"].items()}
    sizes = {each.name: each.size for each in listing.members if each.kind == "file"}
    for name, place in files.items():
        if sizes.get(name) != place.size:
            raise ValueError(f"{name!r} has another size in its listing")
    points = tuple(_point(*point) for point in document["points"])
    compression = document["compression"]
    if compression not in (GZIP, ZSTD, PLAIN):
        raise ValueError(f"{compression!r} is no compression")
    return IndexedLayer(document["diff_id"], compression, listing, files, points)


def _plain(data: bytes) -> bytes:
    inflater = zstd.ZstdDecompressor()
    text: bytes = inflater.decompress(data, _LARGEST)
    if not inflater.eof:
        raise ValueError("it is cut short, or too large")
    return text


def load(data: bytes, where: str) -> SeekIndex:
    """Return the index that `dump` made; SourceError, naming `where`, for anything else."""
    try:
        document = json.loads(_plain(data))
        if document["form"] != _FORM:
            raise ValueError(f"its form is {document['form']}, not {_FORM}")
        return SeekIndex({digest: _layer(each) for digest, each in document["layers"].items()})
    except layercache.MALFORMED as error:
        raise SourceError(
            f"{where} is no seek index of this version ({error or type(error).__name__}): make it "
            "anew with assembler index"
        ) from None
