"""A stage's nodes written as a layer: the same nodes give the same bytes, everywhere.

layers-and-registries.md, section 5: fixed order, times, owners, names and padding; fresh
headers; a compressor that is fed in pieces of one size. It is zlib: isal is three times as fast,
but gives other bytes now and then for the same input, when the machine is busy.
"""

from __future__ import annotations

import hashlib
import tarfile
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO

from assembler import oci
from assembler.layers import Content
from assembler.oci import LayerBlob
from assembler.rootfs import Node
from assembler.streams import CHUNK

LEVEL = 1
# Changes with whatever changes the bytes that the same nodes give; zlib's output may with zlib.
FORM = f"2 zlib {zlib.ZLIB_RUNTIME_VERSION} level {LEVEL}"
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
    """Compresses into a file, and knows the digest of what it wrote."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self._digest = file, hashlib.sha256()
        self._stream = zlib.compressobj(LEVEL, zlib.DEFLATED, 31)

    def write(self, data: bytes) -> None:
        self._emit(self._stream.compress(data))

    def finish(self) -> str:
        """Write what is left and return the digest, in hex."""
        self._emit(self._stream.flush())
        return self._digest.hexdigest()

    def _emit(self, data: bytes) -> None:
        self._digest.update(data)
        self._file.write(data)


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
