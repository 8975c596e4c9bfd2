"""Streams: verified to the last byte, inflated whatever they are made of."""

from __future__ import annotations

import gzip
import io
from collections.abc import Callable

import pytest

from assembler import oci, zstd
from assembler.errors import VerificationError
from assembler.streams import Forward, LayerStream

DATA = bytes(range(256)) * 9000
KINDS: dict[str, Callable[[], bytes]] = {
    "plain": lambda: DATA,
    "gzip": lambda: gzip.compress(DATA),
    "gzip of three members (pigz -i, eStargz)": lambda: b"".join(
        gzip.compress(DATA[i::3]) for i in ()
    ) + gzip.compress(DATA[:5]) + gzip.compress(DATA[5:900]) + gzip.compress(DATA[900:]),
    "gzip padded with zeros": lambda: gzip.compress(DATA) + bytes(5000),
    "zstd": lambda: zstd.compress(DATA),
    "zstd of two frames after a skippable one": lambda: b"\x50\x2a\x4d\x18\x03\0\0\0abc"
    + zstd.compress(DATA[:1000]) + zstd.compress(DATA[1000:]),
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("step", [1000, 1 << 20])
def test_any_compression_gives_the_same_tar(kind: str, step: int) -> None:
    blob = KINDS[kind]()
    stream = LayerStream(
        io.BytesIO(blob), "it", digest=oci.sha256(blob), size=len(blob), diff_id=oci.sha256(DATA)
    )
    assert b"".join(iter(lambda: stream.read(step), b"")) == DATA
    stream.finish()


@pytest.mark.parametrize("kind", [kind for kind in KINDS if "zeros" not in kind])
def test_a_stream_that_stops_short_is_noticed(kind: str) -> None:
    blob = KINDS[kind]()
    with pytest.raises(VerificationError):
        LayerStream(io.BytesIO(blob[:-100]), "it", diff_id=oci.sha256(DATA)).finish()


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"digest": oci.sha256(b"other")}, "has digest sha256:.*, expected sha256:"),
        ({"size": len(DATA) + 1}, f"ended after {len(DATA)} of {len(DATA) + 1} bytes"),
        ({"size": len(DATA) - 1}, f"is longer than its {len(DATA) - 1} bytes"),
        ({"diff_id": oci.sha256(b"other")}, "uncompressed, has digest"),
    ],
)
def test_wrong_bytes_are_named(given: dict[str, object], says: str) -> None:
    with pytest.raises(VerificationError, match=says):
        LayerStream(io.BytesIO(DATA), "it", **given).finish()  # type: ignore[arg-type]


def test_what_is_not_read_is_verified_all_the_same() -> None:
    stream = LayerStream(io.BytesIO(DATA), "it", diff_id=oci.sha256(DATA[:-1]))
    assert stream.read(10) == DATA[:10]
    with pytest.raises(VerificationError):
        stream.finish()


def test_forward_reads_as_a_file_would_and_steps_back_one_byte() -> None:
    class Short(io.RawIOBase):
        """Gives blocks of odd sizes."""

        def __init__(self) -> None:
            self.at = 0

        def read(self, size: int = -1) -> bytes:
            data = DATA[self.at : self.at + 511]
            self.at += len(data)
            return data

    forward, file = Forward(Short()), io.BytesIO(DATA)  # type: ignore[arg-type]
    for position in (0, 510, 511, 512, 1021, 1022, 5000, 5000, 9 * 511, 9 * 511 - 1, len(DATA) - 1):
        assert forward.seek(position) == file.seek(position)
        for size in (1, 100):
            assert forward.read(size) == file.read(size)
            if position + size < len(DATA):
                assert forward.seek(position + size - 1) == file.seek(position + size - 1)
    with pytest.raises(ValueError, match="cannot go back"):
        forward.seek(5)
