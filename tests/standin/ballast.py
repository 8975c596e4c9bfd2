"""Bytes that stand for what the slim image leaves out: gzip halves them, as it does CUDA's."""

from __future__ import annotations

import hashlib
import io
import random
import tarfile

from tests.standin.blobs import EPOCH

_BLOCK = 1 << 16


class Ballast(io.RawIOBase):
    """`size` bytes after `head`, made as they are read: half of each block random, half zeros."""

    def __init__(self, seed: str, size: int, head: bytes = b"") -> None:
        self._left, self._buffer = size, head[:size]
        number = int.from_bytes(hashlib.sha256(seed.encode()).digest()[:8], "big")
        noise = random.Random(number).randbytes(_BLOCK * 8)
        text = b"".join(noise[i : i + 256] + b"\0" * 256 for i in range(0, len(noise), 256))
        self._text = text

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
    tar: tarfile.TarFile, name: str, size: int, owner: tuple[int, int] = (0, 0), mode: int = 0o644
) -> None:
    """Add a file of `size` bytes."""
    info = tarfile.TarInfo(name)
    info.size, info.mode, info.mtime = size, mode, EPOCH
    info.uid, info.gid = owner
    # Not ELF: nothing may take these for libraries that somebody needs.
    tar.addfile(info, Ballast(name, size, b"ballast of " + name.encode()))  # type: ignore[arg-type]
