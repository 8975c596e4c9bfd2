"""A file, or the parts that it was split into, read as one run of bytes.

Parts are plain slices: `cat FILE.0* > FILE` joins them.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO

from assembler.destinations.files import check_output, made_beside
from assembler.errors import AssemblerError, DestinationError, UsageError

MOST = 999


class BundleError(AssemblerError):
    """A bundle is damaged, incomplete, or no bundle."""


def numbered(path: Path, number: int) -> Path:
    """Return the name of a part; the first has number 1."""
    return path.with_name(f"{path.name}.{number:03d}")


class Parts:
    """Files one after the other. `total`, once known, says how many there must be."""

    def __init__(self, files: Sequence[Path]) -> None:
        """Open the files of a bundle in their order. BundleError for one that cannot be read."""
        self._stack = ExitStack()
        self._files: list[tuple[int, int, Path, BinaryIO]] = []  # where it starts and ends
        end = 0
        try:
            for path in files:
                file = self._stack.enter_context(path.open("rb"))
                size = file.seek(0, io.SEEK_END)
                self._files.append((end, end + size, path, file))
                end += size
        except OSError as error:
            self.close()
            raise BundleError(f"{path} cannot be read: {error.strerror}") from None
        self.size = end

    @property
    def paths(self) -> list[Path]:
        """The files, in order."""
        return [path for _, _, path, _ in self._files]

    def read(self, position: int, size: int) -> bytes:
        """Return the bytes at `position`; fewer only at the end."""
        found = []
        for start, end, path, file in self._files:
            if start <= position < end and size:
                count = min(size, end - position)
                try:
                    file.seek(position - start)
                    found.append(file.read(count))
                except OSError as error:
                    raise BundleError(f"{path} cannot be read: {error.strerror}") from None
                position, size = position + count, size - count
        return b"".join(found)

    def at(self, position: int) -> Path:
        """Return the file that a position lies in."""
        return next((p for _, end, p, _ in self._files if position < end), self.paths[-1])

    def check(self, total: int, part: int) -> None:
        """Raise BundleError unless these are all the parts, of `part` bytes each (0: one file)."""
        if self.size == total and len(self._files) == 1:
            return
        count = -(-total // part) if part and len(self._files) > 1 else 1
        for number, (start, end, path, _) in enumerate(self._files, 1):
            expected = min(part, total - part * (number - 1)) if count > 1 else total
            if number > count:
                raise BundleError(f"{path} is one part too many: the bundle has {count}")
            if end - start != expected:
                raise BundleError(
                    f"{path} has {end - start} bytes, expected {expected}: it is cut short, "
                    "another part, or of another bundle; copy it again"
                )

    def close(self) -> None:
        """Close the files."""
        self._stack.close()


def find(path: Path) -> list[Path]:
    """Return the files of the bundle that `path` names: itself, or its parts as far as the first
    number that is not there. Raises BundleError, UsageError.
    """
    match = re.fullmatch(r"(.+)\.(\d{3})", path.name)
    if match and match[2] != "001" and path.with_name(f"{match[1]}.001").exists():
        raise UsageError(f"{path} is a later part: name {match[1]}.001, the others are found")
    whole = path.with_name(match[1]) if match and match[2] == "001" else path
    if path.is_file() and whole is path:
        return [path]
    if path.is_dir():
        raise UsageError(f"{path} is a folder, no bundle")
    found = []
    for number in range(1, MOST + 1):
        if numbered(whole, number).is_file():
            found.append(number)
    if not found:
        raise UsageError(f"{path}: no such bundle (nor {numbered(whole, 1).name})")
    if len(found) != found[-1]:
        raise missing(whole, set(range(1, found[-1])) - set(found))
    return [numbered(whole, number) for number in found]


def missing(path: Path, numbers: Iterable[int]) -> BundleError:
    """Return the error for parts that are not there."""
    names = ", ".join(str(numbered(path, number)) for number in sorted(numbers))
    return BundleError(f"parts of the bundle are missing: {names}")


def check_free(path: Path, *, split: bool) -> None:
    """Raise DestinationError unless a bundle, or its parts, can be written at `path`."""
    check_output(path)
    if split and (there := sorted(path.parent.glob(f"{path.name}.[0-9][0-9][0-9]"))):
        raise DestinationError(f"{there[0]} exists already: remove it or choose another name")


def write(path: Path, pieces: Iterable[bytes], part: int, total: int) -> list[Path]:
    """Write `total` bytes to `path`, or to parts of `part` bytes; all appear, or none.

    Raises DestinationError.
    """
    check_free(path, split=bool(part))
    count = -(-total // part) if part else 1
    if count > MOST:
        raise UsageError(f"--split makes {count} parts of it, and {MOST} is the most")
    names = [numbered(path, n + 1) for n in range(count)] if part else [path]
    slices = _slices(iter(pieces), part or total)
    with ExitStack() as stack:
        for name in names:
            temporary = stack.enter_context(made_beside(name, folder=False))
            with temporary.open("wb") as file:
                for piece in next(slices):
                    file.write(piece)
    return names


def _slices(pieces: Iterator[bytes], size: int) -> Iterator[Iterator[bytes]]:
    """Yield iterators over `size` bytes each; each must be used up before the next."""
    rest = [b""]

    def one() -> Iterator[bytes]:
        left = size
        while left:
            data = rest[0] or next(pieces, b"")
            if not data:
                return
            rest[0] = data[left:]
            yield data[:left]
            left -= min(left, len(data))

    while True:
        yield one()
