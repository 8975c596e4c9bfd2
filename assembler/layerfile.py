"""A stage's nodes written as a layer: the same nodes give the same bytes, everywhere.

layers-and-registries.md, section 5: fixed order, times, owners, names and padding; fresh
headers; a compressor that is fed in pieces of one size, since isal's output depends on them.
"""

from __future__ import annotations

import hashlib
import io
import struct
import tarfile
from collections.abc import Iterable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import IO, Any

from isal import isal_zlib

from assembler import oci
from assembler.layers import Content
from assembler.oci import LayerBlob
from assembler.rootfs import Node
from assembler.streams import CHUNK

# Level 1 of isal is the fastest deflate there is: six times as fast as zlib -1 and 3 % larger.
LEVEL = 1
_STORED = 64  # bytes at the start that are not compressed; see Gzip
_TYPES = {"file": tarfile.REGTYPE, "dir": tarfile.DIRTYPE, "symlink": tarfile.SYMTYPE}


def _header(node: Node, mtime: int, hardlink: str) -> bytes:
    info = tarfile.TarInfo(node.path)
    info.mode, info.uid, info.gid, info.mtime = node.mode, node.uid, node.gid, mtime
    info.type, info.linkname = _TYPES[node.kind], node.link
    if hardlink:
        info.type, info.linkname = tarfile.LNKTYPE, hardlink
    elif node.content is not None:
        info.size = node.content.size
    info.pax_headers = {
        f"SCHILY.xattr.{key}": value.decode("utf-8", "surrogateescape")
        for key, value in node.xattrs
    }
    return info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")


def _linked(nodes: Iterable[Node]) -> Iterator[tuple[Node, str]]:
    """Yield the nodes by path, each with the earlier path that it is another name of, or ""."""
    first: dict[Content, str] = {}
    for node in sorted(nodes, key=lambda each: each.path):
        name = node.path
        if node.kind == "file" and node.content and node.content.size:
            # Two names of one file in the full image are two names of one file here.
            name = first.setdefault(node.content, node.path)
        yield node, name if name != node.path else ""


def tar(nodes: Iterable[Node], mtime: int) -> Iterator[bytes]:
    """Yield the bytes of a tar of `nodes`, sorted by path; mtime in seconds since 1970."""
    for node, link in _linked(nodes):
        yield _header(node, mtime, link)
        content = node.content
        if content is None or link:
            continue
        left = content.size
        with content.open() as file:
            while left and (data := file.read(min(CHUNK, left))):
                left -= len(data)
                yield data
        yield bytes(-content.size % tarfile.BLOCKSIZE)
    yield bytes(2 * tarfile.BLOCKSIZE)


def key(nodes: Iterable[Node], mtime: int) -> str:
    """Return the sha256 (hex) of all that shapes the bytes of a layer of `nodes`."""
    digest = hashlib.sha256(f"{FORM} {mtime}\n".encode())
    for node, link in _linked(nodes):
        data = (node.content.sha256, node.content.size, link) if node.content else node.link
        shape = (node.path, node.kind, node.mode, node.uid, node.gid, node.xattrs, data)
        digest.update(repr(shape).encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def write(nodes: Iterable[Node], mtime: int, folder: Path) -> LayerBlob:
    """Write a layer of `nodes`, as gzip, into `folder`/sha256/<hex> and return it."""
    (folder / "sha256").mkdir(parents=True, exist_ok=True)
    nodes = list(nodes)
    temporary = folder / f"writing-{id(nodes)}"
    diff_id = hashlib.sha256()
    with temporary.open("wb") as file:
        out = Gzip(file)
        for piece in in_pieces(tar(nodes, mtime)):
            diff_id.update(piece)
            out.write(piece)
        digest = out.finish()
        size = file.tell()
    path = folder / "sha256" / digest
    temporary.replace(path)
    descriptor = oci.Descriptor(f"{oci.OCI_LAYER}+gzip", f"sha256:{digest}", size)
    return LayerBlob(f"sha256:{diff_id.hexdigest()}", descriptor, path)


def measured(nodes: Iterable[Node], mtime: int) -> LayerBlob:
    """Return a layer of `nodes` as a plain tar that is never on disk: made when it is read."""
    nodes = list(nodes)
    diff_id, size = hashlib.sha256(), 0
    for piece in in_pieces(tar(nodes, mtime)):
        diff_id.update(piece)
        size += len(piece)
    return plain(nodes, mtime, f"sha256:{diff_id.hexdigest()}", size)


def plain(nodes: Iterable[Node], mtime: int, diff_id: str, size: int) -> LayerBlob:
    """Return the same, of a layer whose diff_id and size in bytes are known."""
    nodes = list(nodes)
    descriptor = oci.Descriptor(oci.OCI_LAYER, diff_id, size)
    return LayerBlob(diff_id, descriptor, make=lambda: in_pieces(tar(nodes, mtime)))


class Gzip:
    """Compresses into a file, and knows the digest of what it wrote.

    isal 2.31's level 1 hashes the third byte of a stream out of a register that holds the address
    of the stream (igzip_icf_body_h1_gr_bt.asm, .write_first_byte), so that one run in some
    thousands gives other bytes. It does not with a dictionary. So the first bytes are a stored
    block (RFC 1951, section 3.2.4), and the dictionary of all that follows.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self._digest = file, hashlib.sha256()
        self._crc = self._size = 0
        self._stream: Any = None

    def write(self, data: bytes) -> None:
        """Compress more; the bytes written depend on how the data is cut into pieces."""
        self._crc = isal_zlib.crc32(data, self._crc)
        self._size += len(data)
        self._compress(memoryview(data))

    def finish(self) -> str:
        """Write what is left and return the digest, in hex."""
        if self._stream is None:
            self._compress(memoryview(b""))
        self._emit(self._stream.flush())
        self._emit(struct.pack("<II", self._crc, self._size & 0xFFFFFFFF))
        return self._digest.hexdigest()

    def _compress(self, data: memoryview) -> None:
        if self._stream is None:
            first, data = bytes(data[:_STORED]), data[_STORED:]
            self._emit(b"\x1f\x8b\x08\0\0\0\0\0\0\xff")
            self._emit(struct.pack("<BHH", 0, len(first), len(first) ^ 0xFFFF) + first)
            raw = -15
            self._stream = isal_zlib.compressobj(LEVEL, isal_zlib.DEFLATED, raw, zdict=first)
        self._emit(self._stream.compress(data))

    def _emit(self, data: bytes) -> None:
        self._digest.update(data)
        self._file.write(data)


def _trial() -> str:
    """Return a digest, in hex, of what isal makes of a sample, to tell processors apart.

    Its code for ARM, and for an x86-64 without SSE 4.2, finds other matches.
    """
    out = Gzip(io.BytesIO())
    out.write(b"".join(b"%d/" % (n * n) for n in range(1500)))
    return out.finish()[:8]


# Changes with whatever changes the bytes that the same nodes give.
FORM = f"3, isal {version('isal')}, level {LEVEL}, trial {_trial()}"


def in_pieces(parts: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the same bytes in pieces of CHUNK, whatever the pieces they come in."""
    waiting = bytearray()
    for part in parts:
        waiting += part
        while len(waiting) >= CHUNK:
            yield bytes(waiting[:CHUNK])
            del waiting[:CHUNK]
    if waiting:
        yield bytes(waiting)
