"""The bytes of a layer: the same for the same nodes, and what the specification allows."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import random
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Any

import pytest

from assembler import layerfile, oci
from assembler.layers import Content
from assembler.rootfs import Node


def node(path: str, kind: str = "file", data: bytes | None = None, **given: Any) -> Node:
    content = given.pop("content", None)
    if data is not None:
        file = Path(given.pop("folder")) / path.replace("/", "-")
        file.write_bytes(data)
        content = Content(file, 0, len(data), hashlib.sha256(data).hexdigest())
    values = {
        "mode": 0o755,
        "uid": 0,
        "gid": 0,
        "link": "",
        "stage": "s",
        "reason": "",
        "origin": "",
    }
    return Node(path, kind, **{**values, **given}, content=content)


def nodes(folder: Path) -> list[Node]:
    first = node("b/file", data=b"x" * 3_000_000, folder=folder, mode=0o4755, uid=1000)
    return [
        first,
        node("b", "dir", mode=0o700),
        node("a-link", "symlink", link="/b/file", mode=0o777),
        node("b/hard", content=first.content),
        node("b/" + "long" * 60, data=b"long", folder=folder),
        node("cap", data=b"c", folder=folder, xattrs=(("security.capability", b"\1\0\xff"),)),
    ]


def test_order_of_nodes_changes_nothing_and_the_bytes_are_known(tmp_path: Path) -> None:
    given = nodes(tmp_path)
    one = layerfile.write(given, 1_000_000_000, tmp_path / "one")
    other = layerfile.write(list(reversed(given)), 1_000_000_000, tmp_path / "other")
    assert one.descriptor == other.descriptor
    # Golden: a change here changes every image that anybody has pinned. Say so in CHANGELOG.
    assert one.diff_id == GOLDEN


GOLDEN = "sha256:ff304414f9761dff3b8cdc8b138305eaeedbea7901658d36fa45d19910389e48"


def test_what_is_in_it(tmp_path: Path) -> None:
    blob = layerfile.write(nodes(tmp_path), 1_000_000_000, tmp_path)
    data = blob.path.read_bytes()
    assert oci.sha256(data) == blob.descriptor.digest
    assert len(data) == blob.descriptor.size
    assert data[4:8] == bytes(4), "gzip's own time"
    plain = gzip.decompress(data)
    assert oci.sha256(plain) == blob.diff_id
    with tarfile.open(fileobj=io.BytesIO(plain)) as tar:
        found = {info.name: info for info in tar}
        assert list(found) == sorted(found)
        assert {info.mtime for info in found.values()} == {1_000_000_000}
        assert {info.uname + info.gname for info in found.values()} == {""}
        assert (found["b/file"].mode, found["b/file"].uid) == (0o4755, 1000)
        assert (found["b/hard"].type, found["b/hard"].linkname) == (tarfile.LNKTYPE, "b/file")
        capability = found["cap"].pax_headers["SCHILY.xattr.security.capability"]
        assert capability.encode("utf-8", "surrogateescape") == b"\1\0\xff"


def test_pieces_in_are_not_pieces_out() -> None:
    data = bytes(range(256)) * 20_000

    def pieces(size: int) -> list[bytes]:
        return list(layerfile.in_pieces(data[at : at + size] for at in range(0, len(data), size)))

    first, second = pieces(100), pieces(77_777)
    assert first == second
    assert {len(piece) for piece in first[:-1]} == {1 << 20}


def compressed(data: bytes, piece: int = 1 << 20) -> bytes:
    file = io.BytesIO()
    out = layerfile.Gzip(file)
    for at in range(0, len(data), piece):
        out.write(data[at : at + piece])
    assert "sha256:" + out.finish() == oci.sha256(file.getvalue())
    return file.getvalue()


@pytest.mark.parametrize(
    ("size", "piece"),
    [
        (size, piece)
        for size in (0, 1, 2, 3, 4, 5, 63, 64, 65, 68, 300, 5000, 70_000, 3_000_000)
        for piece in (1, 64, 1 << 20)
        if size < 10_000 or piece > 1  # slow, and the same
    ],
)
def test_gzip_reads_what_was_compressed(size: int, piece: int) -> None:
    chance = random.Random(size)
    words = [b"usr/lib/", bytes(64), bytes(700), b"libtriton.so", chance.randbytes(90)]
    data = b"".join(chance.choice(words) for _ in range(size))[:size]
    with tempfile.NamedTemporaryFile() as file:
        file.write(compressed(data, piece))
        file.flush()
        assert gzip.decompress(Path(file.name).read_bytes()) == data
        assert subprocess.run(["gzip", "-dc", file.name], stdout=-1, check=True).stdout == data


# Streams far from each other in memory: for isal by itself, some 3 of 20000 give other bytes.
SPREAD = """
import io, mmap, random
from assembler.layerfile import Gzip
chance, found, places = random.Random(1), set(), set()
header = b"opt/tritonserver/backends/" + bytes(486)
data = header + header.replace(b"backends/", b"lib/libt") + bytes(range(256)) * 8
for _ in range(20):
    space, streams = [], []
    for _ in range(1000):
        space.append(mmap.mmap(-1, chance.randrange(1 << 16, 1 << 30)))
        out = Gzip(io.BytesIO())
        out.write(data)
        streams.append(out)
    places |= {id(each._stream) >> 16 for each in streams}
    found |= {each.finish() for each in streams}
print(len(found), len(places) > 10_000)
"""


def test_same_bytes_wherever_in_memory_the_compressor_lies() -> None:
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536"}
    shown = subprocess.run(
        [sys.executable, "-c", SPREAD], env=environment, stdout=subprocess.PIPE, check=True
    )
    assert shown.stdout.decode().split() == ["1", "True"]
