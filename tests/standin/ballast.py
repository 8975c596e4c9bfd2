"""Bytes that stand for what cannot be had: gzip halves them, as it does CUDA's libraries."""

from __future__ import annotations

import hashlib
import io
import random
import tarfile

from tests.standin.tars import EPOCH, ROOT, Owner

_NOISE = 1 << 19  # bytes; far beyond gzip's window of 32 kB, so repeating it costs nothing


class Ballast(io.RawIOBase):
    """`size` bytes of file `name`, the same each time, made as they are read.

    Not ELF: nothing may take these for libraries that somebody needs.
    """

    def __init__(self, name: str, size: int) -> None:
        self._left, self._buffer = size, f"ballast of {name}\n".encode()[:size]
        seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big")
        noise = random.Random(seed).randbytes(_NOISE)
        self._text = b"".join(noise[i : i + 256] + b"\0" * 256 for i in range(0, _NOISE, 256))

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        size = self._left if size is None or size < 0 else min(size, self._left)
        while len(self._buffer) < size:
            self._buffer += self._text
        data, self._buffer = self._buffer[:size], self._buffer[size:]
        self._left -= size
        return data


def add(
    tar: tarfile.TarFile, name: str, size: int, *, mode: int = 0o644, owner: Owner = ROOT
) -> None:
    """Add a file of `size` bytes."""
    info = tarfile.TarInfo(name)
    info.size, info.mode, info.mtime = size, mode, EPOCH
    info.uid, info.gid = owner
    tar.addfile(info, Ballast(name, size))  # type: ignore[arg-type]


def md5(name: str, size: int) -> str:
    """Return the md5 of such a file, as a package's list of md5sums has it."""
    found, source = hashlib.md5(usedforsecurity=False), Ballast(name, size)
    while data := source.read(1 << 20):
        found.update(data)
    return found.hexdigest()
