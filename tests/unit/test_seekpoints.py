"""Points in gzip streams: from each of them on, the same bytes come as by plain inflating."""

from __future__ import annotations

import gzip
import hashlib
import io
import random
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from isal import isal_zlib

from assembler import zstd
from assembler.layers import Spool, read_layer
from assembler.seeking import index as seekindex
from assembler.seeking.deflate import DeflateRecorder, Resumed
from assembler.seeking.index import Place, Span
from assembler.seeking.points import GZIP, Point
from assembler.seeking.spans import _files
from assembler.streams import LayerStream
from tests.unit.building import reg, tar


def text(size: int, seed: int = 1) -> bytes:
    """Bytes that compress to blocks of many lengths."""
    chance = random.Random(seed)
    words = [chance.randbytes(chance.randint(1, 12)) for _ in range(400)]
    parts = [b"".join(chance.choices(words, k=50)) for _ in range(size // 300)]
    return b"".join(parts)[:size]


def deflated(data: bytes, level: int = 6, strategy: int = zlib.Z_DEFAULT_STRATEGY) -> bytes:
    stream = zlib.compressobj(level, zlib.DEFLATED, 31, 9, strategy)
    return stream.compress(data) + stream.flush()


def flushed(data: bytes) -> bytes:
    """With empty blocks all over it."""
    stream, out = zlib.compressobj(6, zlib.DEFLATED, 31), b""
    modes = zlib.Z_SYNC_FLUSH, zlib.Z_FULL_FLUSH, zlib.Z_PARTIAL_FLUSH
    for number, at in enumerate(range(0, len(data), 9000)):
        out += stream.compress(data[at : at + 9000]) + stream.flush(modes[number % 3])
    return out + stream.flush()


def by_isal(data: bytes) -> bytes:
    stream = isal_zlib.compressobj(1, isal_zlib.DEFLATED, 31)
    return bytes(stream.compress(data) + stream.flush())


WAYS: dict[str, Callable[[bytes], bytes]] = {
    "level 1": lambda data: deflated(data, 1),
    "level 6": deflated,
    "level 9": lambda data: deflated(data, 9),
    "stored": lambda data: deflated(data, 0),
    "fixed codes": lambda data: deflated(data, 6, zlib.Z_FIXED),
    "Huffman only": lambda data: deflated(data, 6, zlib.Z_HUFFMAN_ONLY),
    "runs": lambda data: deflated(data, 6, zlib.Z_RLE),
    "flushed": flushed,
    "isal": by_isal,
    "members": lambda d: b"".join(gzip.compress(d[n : n + 90001]) for n in range(0, len(d), 90001)),
    "tiny members": lambda data: gzip.compress(b"") + gzip.compress(data[:9]) + deflated(data[9:]),
}  # fmt: skip


def framed(data: bytes) -> bytes:
    """In zstd frames, some of them empty or to be skipped, as zstd:chunked has them."""
    skipped = b"\x50\x2a\x4d\x18\x03\0\0\0abc"
    frames = [zstd.compress(data[at : at + 50_001]) for at in range(0, len(data), 50_001)]
    return skipped + zstd.compress(b"") + skipped.join(frames) + skipped


OTHERS: dict[str, Callable[[bytes], bytes]] = {
    "zstd": zstd.compress,
    "zstd frames": framed,
    "plain": lambda data: data,
}


@pytest.fixture(autouse=True)
def close(monkeypatch: pytest.MonkeyPatch) -> None:
    """Points as close as the blocks are."""
    monkeypatch.setattr("assembler.seeking.deflate.SPACING", 1)
    monkeypatch.setattr("assembler.seeking.deflate._GAP", 0)
    monkeypatch.setattr("assembler.seeking.deflate._STRIDE", 0)


def every_point(blob: bytes, step: int) -> DeflateRecorder:
    """Read the blob in pieces, and pin every boundary."""
    recorder, left = DeflateRecorder(), blob
    out = b""
    while left or not recorder.eof:
        piece, left = left[:step], left[step:]
        out += recorder.decompress(piece, 65536)
        while not recorder.eof and not recorder.needs_input:
            out += recorder.decompress(b"", 65536)
        for plain, _, _ in recorder.boundaries[len(recorder.points) :]:
            recorder.pin(plain, 0)
        if recorder.eof:
            left = recorder.unused_data + left
            if not left:
                break
    assert out == gzip.decompress(blob)
    return recorder


@pytest.mark.parametrize("way", WAYS)
def test_every_point_continues_the_stream(way: str) -> None:
    data = text(500_000) + bytes(70_000) + random.Random(2).randbytes(90_000)
    blob = WAYS[way](data)
    recorder = every_point(blob, 50_001)
    assert len(recorder.points) > 1 or way == "fixed codes"
    for point in recorder.points.values():
        stream = Resumed(point)
        got = stream.decompress(blob[point.packed - bool(point.bits) :])
        assert got == data[point.plain : point.plain + len(got)]
        assert stream.eof
        if "members" not in way:
            assert len(got) == len(data) - point.plain


def test_all_bit_offsets_are_met() -> None:
    found = set()
    for seed in range(12):
        recorder = every_point(deflated(text(700_000, seed), 1), 1 << 20)
        found |= {point.bits for point in recorder.points.values()}
    assert found == set(range(8))


@pytest.mark.parametrize("way", [*WAYS, *OTHERS])
@pytest.mark.parametrize("spaced", [1, 1 << 16])
def test_files_by_spans(
    way: str, spaced: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("assembler.seeking.deflate.SPACING", spaced)
    chance = random.Random(3)
    sizes = [0, 1, 511, 40_000, 200_000, 3, 300_000, 70_000]
    files = {f"f{n}": text(size, n) or b"" for n, size in enumerate(sizes)}
    data = tar(*(reg(name, content) for name, content in files.items()))
    blob = (WAYS | OTHERS)[way](data)
    making = seekindex.Making()
    # As base and full image do that share a layer, of which each wants other files.
    for wanted in ({"f0", "f2", "f4", "f6"}, {"f1", "f3", "f4", "f5", "f7"}):
        stream = LayerStream(io.BytesIO(blob), "it")
        recorder = stream.record()
        spool = Spool(tmp_path / min(wanted))
        layer = read_layer(stream, wanted.__contains__, spool, recorder.pin)
        stream.finish()
        making.add("x", stream.actual_diff_id, layer, recorder)
    index = seekindex.load(seekindex.dump(making.made()), "it").layers["x"]
    monkeypatch.setattr("assembler.seeking.index._NEAR", 0)
    for number in range(12):
        names = chance.sample(sorted(files), chance.randint(1, 4))
        spans = index.spans(names)
        assert spans is not None
        found = {}
        for at, span in enumerate(spans):
            spool = Spool(tmp_path / f"{number}-{at}")
            found |= _files(io.BytesIO(blob[span.start : span.end]), span, spool)
            spool.close()
        assert {name: content.sha256 for name, content in found.items()} == {
            name: hashlib.sha256(files[name]).hexdigest() for name in names
        }
    assert index.spans(["nowhere"]) is None
    [span] = index.spans(["f1"]) or [None]
    assert span is not None
    if way in ("plain", "zstd frames"):
        assert span.end - span.start <= {"plain": 1, "zstd frames": 50_000}[way]


def test_reads_that_end_within_a_trailer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = random.Random(4).randbytes(2000)
    blob = b"".join(gzip.compress(data[at : at + 500]) for at in range(0, 2000, 500))
    place = Place(0, 2000, hashlib.sha256(data).hexdigest(), len(blob))
    span = Span(
        GZIP, Point(10, 0, 0, b""), 10, len(blob), (("it", place),)
    )  # behind the gzip header
    for piece in range(1, 540):
        monkeypatch.setattr("assembler.seeking.spans._PIECE", piece)
        spool = Spool(tmp_path / f"{piece}")
        found = _files(io.BytesIO(blob[10:]), span, spool)
        spool.close()
        assert found["it"].read() == data
