"""A stage's nodes written as a layer: the same nodes give the same bytes, everywhere.

layers-and-registries.md, section 5: fixed order, times, owners, names and padding; fresh
headers; a compressor that is fed in pieces of one size, since isal's output depends on them.
"""

from __future__ import annotations

import hashlib
import tarfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO

from isal import isal_zlib

from assembler import oci
from assembler.layers import Content
from assembler.oci import LayerBlob
from assembler.rootfs import Node
from assembler.streams import CHUNK

# Level 1 of isal is the fastest deflate there is (529 MB/s) at 1.1 times zlib -6's size.
LEVEL = 1
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


def tar(nodes: Iterable[Node], mtime: int) -> Iterator[bytes]:
    """Yield the bytes of a tar of `nodes`, sorted by path; mtime in seconds since 1970."""
    links: dict[Content, str] = {}
    for node in sorted(nodes, key=lambda each: each.path):
        content = node.content if node.kind == "file" else None
        # Two names of one file in the full image are two names of one file here.
        first = links.setdefault(content, node.path) if content and content.size else node.path
        yield _header(node, mtime, first if first != node.path else "")
        if content is None or first != node.path:
            continue
        left = content.size
        with content.open() as file:
            while left and (data := file.read(min(CHUNK, left))):
                left -= len(data)
                yield data
        yield bytes(-content.size % tarfile.BLOCKSIZE)
    yield bytes(2 * tarfile.BLOCKSIZE)


def write(nodes: Iterable[Node], mtime: int, folder: Path, *, compress: bool = True) -> LayerBlob:
    """Write a layer of `nodes` into `folder`/sha256/<hex> and return it: gzip, or a plain tar."""
    (folder / "sha256").mkdir(parents=True, exist_ok=True)
    nodes = list(nodes)
    temporary = folder / f"writing-{id(nodes)}"
    diff_id = hashlib.sha256()
    with temporary.open("wb") as file:
        out = _Gzip(file) if compress else None
        for piece in _pieces(tar(nodes, mtime)):
            diff_id.update(piece)
            if out:
                out.write(piece)
            else:
                file.write(piece)
        digest = out.finish() if out else diff_id.hexdigest()
        size = file.tell()
    path = folder / "sha256" / digest
    temporary.replace(path)
    kind = f"{oci.OCI_LAYER}+gzip" if compress else oci.OCI_LAYER
    descriptor = oci.Descriptor(kind, f"sha256:{digest}", size)
    return LayerBlob(f"sha256:{diff_id.hexdigest()}", descriptor, path)


class _Gzip:
    """Compresses into a file, and knows the digest of what it wrote."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self._digest = file, hashlib.sha256()
        self._stream = isal_zlib.compressobj(LEVEL, isal_zlib.DEFLATED, 31)

    def write(self, data: bytes) -> None:
        self._emit(self._stream.compress(data))

    def finish(self) -> str:
        """Write what is left and return the digest, in hex."""
        self._emit(self._stream.flush())
        return self._digest.hexdigest()

    def _emit(self, data: bytes) -> None:
        self._digest.update(data)
        self._file.write(data)


def _pieces(parts: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the same bytes in pieces of CHUNK, whatever the pieces they come in."""
    waiting = bytearray()
    for part in parts:
        waiting += part
        while len(waiting) >= CHUNK:
            yield bytes(waiting[:CHUNK])
            del waiting[:CHUNK]
    if waiting:
        yield bytes(waiting)
