"""One layer: what its tar lists, and the content of those files that are wanted.

A layer is read once, as a stream. All members are listed, few are kept: their bytes go to a
`Spool` on disk, with a sha256 each. Unwanted bytes are never written.
"""

from __future__ import annotations

import hashlib
import tarfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, BinaryIO, NamedTuple

from assembler.errors import SourceError, VerificationError
from assembler.streams import CHUNK, Forward, LayerStream

WHITEOUT = ".wh."
OPAQUE = ".wh..wh..opq"

Wanted = Callable[[str], bool]
Pin = Callable[[int, int], None]  # offset and size, in bytes of the tar


class Content(NamedTuple):
    """Bytes in a spool: `size` bytes at `offset` of `path`, and their sha256 (hex)."""

    path: Path
    offset: int
    size: int
    sha256: str

    def open(self) -> BinaryIO:
        """Return a file that stands at the first byte; the caller reads `size` bytes of it."""
        file = self.path.open("rb")
        file.seek(self.offset)
        return file

    def read(self, limit: int | None = None) -> bytes:
        """Return the bytes, or the first `limit` of them."""
        with self.open() as file:
            return file.read(self.size if limit is None else min(limit, self.size))


class Spool:
    """An append-only file of contents, made when the first one is written."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: IO[bytes] | None = None
        self._end = 0

    def write(self, source: IO[bytes]) -> Content:
        """Copy `source` to its end and return where it lies."""
        if self._file is None:
            # Never an older one: the cache may have that by another name.
            self._file = self.path.open("xb", buffering=CHUNK)
        digest, start = hashlib.sha256(), self._end
        while data := source.read(CHUNK):
            digest.update(data)
            self._file.write(data)
            self._end += len(data)
        return Content(self.path, start, self._end - start, digest.hexdigest())

    def close(self) -> None:
        if self._file is not None:
            self._file.close()


class Member(NamedTuple):
    """One entry of a layer's tar; `name` and hardlink targets have no leading `/` or `./`.

    kind: file, dir, symlink, hardlink or other (devices and pipes).
    size: bytes. mode: permission bits. xattrs: names (SCHILY.xattr. removed) and raw bytes.
    """

    name: str
    kind: str
    mode: int
    uid: int
    gid: int
    size: int
    link: str
    xattrs: tuple[tuple[str, bytes], ...] = ()


@dataclass
class Layer:
    """What one layer does: names it hides below, folders it empties below, members it has."""

    members: list[Member] = field(default_factory=list)
    whiteouts: list[str] = field(default_factory=list)
    opaque: list[str] = field(default_factory=list)
    contents: dict[str, Content] = field(default_factory=dict)
    offsets: dict[str, int] = field(default_factory=dict)  # in the tar, of the same names' bytes


class _Header(tarfile.TarInfo):
    """A header that is right, or an error: tarfile takes a broken one for the layer's end."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> _Header:
        """As TarInfo's. Raises tarfile.ReadError."""
        try:
            return super().frombuf(buf, encoding, errors)
        except tarfile.HeaderError as error:
            if not buf.strip(b"\0") and len(buf) in (0, tarfile.BLOCKSIZE):
                raise  # That is the end.
            raise tarfile.ReadError(str(error)) from None


class _Odd(Exception):
    """What a layer has that none should have; the text goes on after the layer's name."""


def normal(name: str, what: str) -> str:
    """Return `name` relative to the root; _Odd for one that leaves it (ggcr #2227)."""
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise _Odd(f"has a {what} that leaves the image: {name!r}; refused")
    return "/".join(parts)


def _kind(info: tarfile.TarInfo) -> str:
    if info.isreg():
        return "file"
    if info.isdir():
        return "dir"
    if info.issym():
        return "symlink"
    return "hardlink" if info.islnk() else "other"


def _xattrs(info: tarfile.TarInfo) -> tuple[tuple[str, bytes], ...]:
    prefix = "SCHILY.xattr."
    return tuple(
        (key[len(prefix) :], value.encode("utf-8", "surrogateescape"))
        for key, value in sorted(info.pax_headers.items())
        if key.startswith(prefix)
    )


def read_layer(
    stream: BinaryIO | LayerStream, wanted: Wanted, spool: Spool, pin: Pin | None = None
) -> Layer:
    """List the layer in `stream` (plain tar bytes) and keep the files that are `wanted`.

    `wanted` is asked with each regular file's name. The last of several members of one name
    wins, as when the layer is unpacked. pin: told where each file kept lies in the tar.
    Raises SourceError for a tar that cannot be read.
    """
    layer, what = Layer(), getattr(stream, "what", "a layer")
    try:
        source: Any = Forward(stream)
        with tarfile.open(fileobj=source, mode="r:", errorlevel=2, tarinfo=_Header) as tar:
            for info in tar:
                tar.members = []  # type: ignore[attr-defined]  # it keeps them all, for ever
                _note(layer, tar, info, wanted, spool, pin)
        # Two blocks of zeros end it; one alone, Go's archive/tar refuses as well.
        if source.read(tarfile.BLOCKSIZE).strip(b"\0"):
            raise tarfile.ReadError("zeros between its members")
    except (tarfile.TarError, ValueError) as error:
        raise VerificationError(f"{what} is not a readable tar: {error}") from None
    except _Odd as error:
        raise SourceError(f"{what} {error}") from None
    finally:
        spool.close()
    return layer


def _note(
    layer: Layer,
    tar: tarfile.TarFile,
    info: tarfile.TarInfo,
    wanted: Wanted,
    spool: Spool,
    pin: Pin | None,
) -> None:
    name = normal(info.name, "name")
    folder, _, base = name.rpartition("/")
    if base == OPAQUE:
        layer.opaque.append(folder)
        return
    if base.startswith(WHITEOUT):
        hidden = base[len(WHITEOUT) :]
        if not hidden:
            # image-spec, layer.md; once read as opaque by umoci.
            raise _Odd(f"has a whiteout of nothing: {info.name!r}")
        layer.whiteouts.append(f"{folder}/{hidden}" if folder else hidden)
        return
    kind = _kind(info)
    link = normal(info.linkname, "hardlink") if kind == "hardlink" else info.linkname
    layer.members.append(
        Member(
            name,
            kind,
            info.mode & 0o7777,
            info.uid,
            info.gid,
            info.size if kind == "file" else 0,
            link if kind in ("hardlink", "symlink") else "",
            _xattrs(info) if info.pax_headers else (),
        )
    )
    if kind == "file" and wanted(name):
        layer.offsets[name] = info.offset_data
        if pin is not None:
            pin(info.offset_data, info.size)
        content = tar.extractfile(info)
        assert content is not None
        with content:
            layer.contents[name] = spool.write(content)
