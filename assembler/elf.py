"""What an ELF file asks of the loader, and what it offers: read straight from its dynamic section.

Program headers are used, not sections, since the loader uses them too and a stripped file may
have no sections. A library was measured and is not used: of 200 libraries, pyelftools takes 0.49 s
and lief 0.24 s with 0.34 s to import, out of a run of 3; this takes 0.01 s
(layers-and-registries.md). The tests hold it against pyelftools.
Source: System V gABI, chapter 5; LSB Core, "Symbol Versioning".
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from assembler.layers import Content

MAGIC = b"\x7fELF"
MACHINES = {0x3E: "x86_64", 0xB7: "aarch64", 0x03: "i386", 0x28: "arm", 0x15: "ppc64", 0x16: "s390"}

_PT_LOAD, _PT_DYNAMIC, _PT_INTERP = 1, 2, 3
_NEEDED, _STRTAB, _SONAME, _RPATH, _RUNPATH = 1, 5, 14, 15, 29
_VERDEF, _VERDEFNUM, _VERNEED, _VERNEEDNUM = 0x6FFFFFFC, 0x6FFFFFFD, 0x6FFFFFFE, 0x6FFFFFFF


class BadElf(ValueError):
    """The file starts like ELF but its headers or dynamic section are damaged."""


@dataclass(frozen=True)
class Elf:
    """machine: as in MACHINES, or a number. needed: sonames in order. versions: by soname, the
    symbol versions asked of it (weak ones left out). offers: versions defined. interpreter: the
    loader of an executable, else "". runpath, rpath: folders as written, `$ORIGIN` and all.
    """

    machine: str
    soname: str
    needed: tuple[str, ...]
    runpath: tuple[str, ...]
    rpath: tuple[str, ...]
    versions: dict[str, tuple[str, ...]]
    offers: frozenset[str]
    interpreter: str


def read(content: Content) -> Elf | None:
    """Return what `content` asks and offers, or None where it is no ELF file.

    Raises BadElf for a damaged one (a truncated library, say).
    """
    if content.size < 64:
        return None
    with content.open() as file:
        if file.read(4) != MAGIC:
            return None
        # Offsets of a map start at pages; the file's own first byte is somewhere behind it.
        start = content.offset % mmap.ALLOCATIONGRANULARITY
        page = content.offset - start
        with mmap.mmap(
            file.fileno(), content.size + start, offset=page, access=mmap.ACCESS_READ
        ) as data:
            try:
                return _Reader(data, start, content.size).read()
            except (struct.error, IndexError, ValueError) as error:
                raise BadElf(str(error)) from None


class _Reader:
    def __init__(self, data: Any, start: int, size: int) -> None:
        self._data, self._start, self._size = data, start, size
        ident = data[start : start + 16]
        self._wide = ident[4] == 2
        self._order = "<" if ident[5] == 1 else ">"

    def _get(self, form: str, offset: int) -> tuple[Any, ...]:
        form = self._order + form
        if offset < 0 or offset + struct.calcsize(form) > self._size:
            raise BadElf("it is truncated")
        return struct.unpack_from(form, self._data, self._start + offset)

    def _segments(self) -> Iterator[tuple[int, int, int, int]]:
        """Yield type, offset, address and size in the file of each program header."""
        at, size, count = (
            (self._get("Q", 32)[0], *self._get("HH", 54))
            if self._wide
            else (self._get("I", 28)[0], *self._get("HH", 42))
        )
        for number in range(count):
            here = at + number * size
            if self._wide:
                kind, _, offset, address, _, length = self._get("IIQQQQ", here)
            else:
                kind, offset, address, _, length = self._get("IIIII", here)
            yield kind, offset, address, length

    def read(self) -> Elf:
        machine = self._get("H", 18)[0]
        segments = list(self._segments())
        self._loads = [s[1:] for s in segments if s[0] == _PT_LOAD]
        for offset, _, length in self._loads:
            if offset + length > self._size:
                raise BadElf(f"it is truncated: {self._size} of {offset + length} bytes")
        interpreter = next((self._bytes(s[1], s[3]) for s in segments if s[0] == _PT_INTERP), b"")
        table = self._dynamic(next(((s[1], s[3]) for s in segments if s[0] == _PT_DYNAMIC), None))
        self._strings = self._offset(table[_STRTAB][0]) if _STRTAB in table else 0

        def folders(tag: int) -> tuple[str, ...]:
            return tuple(p for v in table.get(tag, ()) for p in self._string(v).split(":") if p)

        return Elf(
            MACHINES.get(machine, str(machine)),
            self._string(table[_SONAME][0]) if _SONAME in table else "",
            tuple(self._string(value) for value in table.get(_NEEDED, ())),
            folders(_RUNPATH),
            folders(_RPATH),
            self._version_needs(table),
            frozenset(self._version_offers(table)),
            interpreter.rstrip(b"\0").decode(),
        )

    def _bytes(self, offset: int, length: int) -> bytes:
        return bytes(self._data[self._start + offset : self._start + offset + length])

    def _dynamic(self, where: tuple[int, int] | None) -> dict[int, list[int]]:
        table: dict[int, list[int]] = {}
        if where is None:
            return table
        form, step = ("QQ", 16) if self._wide else ("II", 8)
        for at in range(where[0], where[0] + where[1], step):
            tag, value = self._get(form, at)
            if tag == 0:
                break
            table.setdefault(tag, []).append(value)
        return table

    def _offset(self, address: int) -> int:
        for offset, start, length in self._loads:
            if start <= address < start + length:
                return int(offset + address - start)
        raise BadElf("an address of its dynamic section lies in no segment")

    def _string(self, index: int) -> str:
        start = self._start + self._strings + index
        end = self._data.find(b"\0", start, self._start + self._size)
        if end < 0:
            raise BadElf("a string of its dynamic section has no end")
        return bytes(self._data[start:end]).decode()

    def _version_needs(self, table: dict[int, list[int]]) -> dict[str, tuple[str, ...]]:
        found: dict[str, tuple[str, ...]] = {}
        if _VERNEED not in table:
            return found
        at = self._offset(table[_VERNEED][0])
        for _ in range(table.get(_VERNEEDNUM, [0])[0]):
            _, count, name, aux, following = self._get("HHIII", at)
            here, names = at + aux, []
            for _ in range(count):
                _, flags, _, version, step = self._get("IHHII", here)
                if not flags & 2:  # VER_FLG_WEAK: its absence is no error for the loader
                    names.append(self._string(version))
                if not step:
                    break
                here += step
            found[self._string(name)] = tuple(names)
            if not following:
                break  # Whatever number of them the file claims to have.
            at += following
        return found

    def _version_offers(self, table: dict[int, list[int]]) -> Iterator[str]:
        if _VERDEF not in table:
            return
        at = self._offset(table[_VERDEF][0])
        for _ in range(table.get(_VERDEFNUM, [0])[0]):
            _, _, _, _, _, aux, following = self._get("HHHHIII", at)
            yield self._string(self._get("II", at + aux)[0])
            if not following:
                break
            at += following
