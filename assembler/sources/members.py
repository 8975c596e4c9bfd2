"""The files inside an archive or a layout folder, read in place.

An archive is indexed once by its tar headers and then read by seeking, each member through a
file handle of its own, so that several can be read at a time and none is copied.
"""

from __future__ import annotations

import io
import posixpath
import stat
import tarfile
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, BinaryIO

from assembler.errors import SourceError

# Manifests and configs; a registry takes 4 MiB of manifest (distribution-spec).
DOCUMENT = 16 << 20

_KINDS = (
    (b"\x1f\x8b", "is compressed with gzip: decompress it first (gzip -dk FILE)"),
    (b"\x28\xb5\x2f\xfd", "is compressed with zstd: decompress it first (zstd -dk FILE)"),
    (b"\xfd7zXZ", "is compressed with xz: decompress it first (xz -dk FILE)"),
    (b"BZh", "is compressed with bzip2: decompress it first (bzip2 -dk FILE)"),
    (b"PK\x03\x04", "is not an image archive but a zip file"),
    (b"\x7fELF", "is not an image archive but a program"),
    (b"{", "is not an image archive but JSON text"),
    (b"[", "is not an image archive but JSON text"),
    (b"<", "is not an image archive but a web page (an error page of a download?)"),
)


class Members(ABC):
    """The files of an archive or folder, by their path inside it, such as `index.json`."""

    where: str

    @abstractmethod
    def has(self, name: str) -> bool:
        """Tell whether there is such a file."""

    @abstractmethod
    def names(self, folder: str) -> list[str]:
        """Return the paths of the files right in a folder (which ends in /), sorted."""

    @abstractmethod
    def size(self, name: str) -> int:
        """Return its size in bytes. SourceError where it is missing."""

    @abstractmethod
    def open(self, name: str) -> BinaryIO:
        """Return it as a stream of its own. SourceError where it is missing."""

    @abstractmethod
    def real(self, name: str) -> str:
        """Return the path that `name` stands for: itself, or what it links to."""

    def document(self, name: str) -> bytes:
        """Return the bytes of a manifest or config. SourceError where it is missing or huge."""
        size = self.size(name)
        if size > DOCUMENT:
            raise SourceError(f"{name} in {self.where} is {size} bytes long: that is no document")
        with self.open(name) as file:
            data = file.read()
        if len(data) != size:
            raise SourceError(f"{self.where} is truncated: {name} ends early")
        return data


class TarMembers(Members):
    """The files of an uncompressed tar file.

    SourceError says what is wrong with the file: missing, no permission, compressed, not a
    tar, truncated, or with paths that lead out of it.
    """

    def __init__(self, path: Path, where: str) -> None:
        self.where, self._path = where, path
        self._spans: dict[str, tuple[int, int]] = {}
        self._links: dict[str, str] = {}
        self._complete = False
        try:
            mode = path.stat().st_mode
            if not stat.S_ISREG(mode):
                kind = "a folder" if stat.S_ISDIR(mode) else "not a regular file"
                hint = ": write oci:PATH for a layout folder" if stat.S_ISDIR(mode) else ""
                raise SourceError(f"{where}: {path} is {kind}{hint}")
            with path.open("rb") as file:
                self._index(file)
        except OSError as error:
            raise SourceError(f"{where} cannot be read: {error.strerror}") from None

    def _index(self, file: BinaryIO) -> None:
        head = file.read(tarfile.BLOCKSIZE)
        file.seek(0)
        if not head:
            raise SourceError(f"{self.where}: the file is empty")
        try:
            with tarfile.open(fileobj=file, mode="r:") as tar:
                for member in tar:
                    self._add(member)
                end = tar.offset
        except tarfile.ReadError as error:
            if "end of data" in str(error):
                raise SourceError(f"{self.where}: the archive is truncated") from None
            raise SourceError(f"{self.where}: the file {_kind(head)}") from None
        # tarfile takes a broken header after the first for the end of the archive.
        file.seek(end)
        block = file.read(tarfile.BLOCKSIZE)
        if block.strip(b"\0") or 0 < len(block) < tarfile.BLOCKSIZE:
            raise SourceError(f"{self.where}: the archive is damaged or truncated at byte {end}")
        self._complete = bool(block)

    def _add(self, member: tarfile.TarInfo) -> None:
        name = clean(member.name, self.where)
        if member.isreg():
            self._spans[name] = (member.offset_data, member.size)
            self._links.pop(name, None)
        elif member.issym():
            # Archives made before Docker 25 link layers that are equal: ../<id>/layer.tar.
            target = posixpath.normpath(posixpath.join(posixpath.dirname(name), member.linkname))
            self._links[name] = clean(target, self.where)
        elif member.islnk():
            self._links[name] = clean(member.linkname, self.where)

    def real(self, name: str) -> str:
        name = clean(name, self.where)
        for _ in range(10):
            if name not in self._links:
                break
            name = self._links[name]
        return name

    def names(self, folder: str) -> list[str]:
        return sorted(name for name in self._spans if name.rpartition("/")[0] + "/" == folder)

    def has(self, name: str) -> bool:
        return self.real(name) in self._spans

    def _span(self, name: str) -> tuple[int, int]:
        try:
            return self._spans[self.real(name)]
        except KeyError:
            hint = "" if self._complete else " (it has no end mark: truncated?)"
            raise SourceError(f"{self.where}: the archive has no {name}{hint}") from None

    def size(self, name: str) -> int:
        return self._span(name)[1]

    def open(self, name: str) -> BinaryIO:
        offset, size = self._span(name)
        return _opened(self._path, f"{self.where}: {name}", offset, size)


class FolderMembers(Members):
    """The files of a folder. SourceError where it is none or may not be read."""

    def __init__(self, path: Path, where: str) -> None:
        self.where, self._path = where, path
        try:
            if not stat.S_ISDIR(path.stat().st_mode):
                raise SourceError(
                    f"{where}: {path} is not a folder: "
                    "write oci-archive:FILE or docker-archive:FILE for an archive"
                )
            next(path.iterdir(), None)
        except OSError as error:
            raise SourceError(f"{where} cannot be read: {error.strerror}") from None

    def real(self, name: str) -> str:
        return clean(name, self.where)

    def names(self, folder: str) -> list[str]:
        there = self._path / folder
        return sorted(f"{folder}{path.name}" for path in there.iterdir()) if there.is_dir() else []

    def has(self, name: str) -> bool:
        return (self._path / self.real(name)).is_file()

    def size(self, name: str) -> int:
        try:
            return (self._path / self.real(name)).stat().st_size
        except FileNotFoundError:
            raise SourceError(f"{self.where}: the layout has no {name}") from None
        except OSError as error:
            raise SourceError(f"{self.where}: cannot read {name}: {error.strerror}") from None

    def open(self, name: str) -> BinaryIO:
        return _opened(self._path / self.real(name), f"{self.where}: {name}", 0, self.size(name))


def clean(name: str, where: str) -> str:
    """Return a path inside the archive without `./`; SourceError where it leads out of it."""
    path = posixpath.normpath(name)
    if name.startswith("/") or path.split("/")[0] == "..":
        raise SourceError(f"{where}: the path {name!r} leads out of the archive")
    return path


def _kind(head: bytes) -> str:
    for magic, text in _KINDS:
        if head.lstrip().startswith(magic):
            return text
    return f"is not an image archive (its first bytes are {head[:8]!r})"


def _opened(path: Path, what: str, offset: int, size: int) -> BinaryIO:
    try:
        return io.BufferedReader(_Span(path, what, offset, size), 1 << 16)
    except OSError as error:
        raise SourceError(f"{what}: cannot be read: {error.strerror}") from None


class _Span(io.RawIOBase):
    """`size` bytes of a file from `offset` on, through its own handle."""

    def __init__(self, path: Path, what: str, offset: int, size: int) -> None:
        self._what, self._left = what, size
        self._file = path.open("rb", buffering=0)
        self._file.seek(offset)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer)[: self._left]
        try:
            count = self._file.readinto(view) or 0
        except OSError as error:
            raise SourceError(f"{self._what}: cannot be read: {error.strerror}") from None
        self._left -= count
        return count

    def close(self) -> None:
        if not self.closed:
            self._file.close()
        super().close()
