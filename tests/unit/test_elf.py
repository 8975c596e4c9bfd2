"""ELF files, read as pyelftools reads them."""

from __future__ import annotations

import hashlib
import struct
import time
from pathlib import Path

import pytest
from elftools.elf.elffile import ELFFile
from elftools.elf.gnuversions import GNUVerDefSection, GNUVerNeedSection

from assembler import elf
from assembler.layers import Content
from tests.unit.building import elf as make

SYSTEM = [p for p in Path("/usr/lib/x86_64-linux-gnu").glob("lib[a-z]*.so.*") if not p.is_symlink()]


def content(data: bytes, path: Path, before: bytes = b"") -> Content:
    path.write_bytes(before + data)
    return Content(path, len(before), len(data), hashlib.sha256(data).hexdigest())


@pytest.mark.parametrize("path", sorted(SYSTEM)[:60], ids=lambda path: path.name)
def test_this_machines_libraries(path: Path) -> None:
    found = elf.read(Content(path, 0, path.stat().st_size, ""))
    with path.open("rb") as file:
        theirs = ELFFile(file)
        dynamic = theirs.get_section_by_name(".dynamic")
        needed = [t.needed for t in dynamic.iter_tags("DT_NEEDED")]
        sonames = [t.soname for t in dynamic.iter_tags("DT_SONAME")]
        versions, offers = {}, set()
        for section in theirs.iter_sections():
            if isinstance(section, GNUVerNeedSection):
                versions = {
                    n.name: tuple(a.name for a in aux) for n, aux in section.iter_versions()
                }
            if isinstance(section, GNUVerDefSection):
                offers = {next(iter(aux)).name for _, aux in section.iter_versions()}
    assert found is not None
    assert list(found.needed) == needed
    assert [found.soname] == (sonames or [""])
    assert {k: set(v) for k, v in found.versions.items()} == {
        k: set(v) for k, v in versions.items()
    }
    assert found.offers == offers


def test_everything_a_loader_asks_for(tmp_path: Path) -> None:
    data = make(
        soname="libx.so.1", needed=["liba.so", "libb.so"], runpath="$ORIGIN:/opt/lib",
        interpreter="/lib64/ld.so", versions={"liba.so": ["A_1", "A_2"], "libb.so": ["B_1"]},
        offers=["libx.so.1", "X_1"], machine=0xB7,
    )  # fmt: skip
    found = elf.read(content(data, tmp_path / "x", before=b"spool" * 3000))
    assert found == elf.Elf(
        "aarch64", "libx.so.1", ("liba.so", "libb.so"), ("$ORIGIN", "/opt/lib"), (),
        {"liba.so": ("A_1", "A_2"), "libb.so": ("B_1",)}, frozenset({"libx.so.1", "X_1"}),
        "/lib64/ld.so",
    )  # fmt: skip


def test_a_damaged_file_is_said_to_be_one(tmp_path: Path) -> None:
    data = make(soname="libx.so.1", needed=["liba.so"])
    for size in range(64, len(data)):
        with pytest.raises(elf.BadElf):
            elf.read(content(data[:size], tmp_path / "x"))
    assert elf.read(content(b"#!/bin/sh\n" * 20, tmp_path / "x")) is None


@pytest.mark.parametrize("tag", [0x6FFFFFFF, 0x6FFFFFFD], ids=["needs", "offers"])
def test_an_endless_list_of_versions_ends(tmp_path: Path, tag: int) -> None:
    data = make(versions={"liba.so": ["A_1"]}, offers=["X_1"])
    claim = struct.pack("<QQ", tag, 1)
    assert data.count(claim) == 1
    endless, begun = struct.pack("<QQ", tag, 1 << 24), time.monotonic()
    found = elf.read(content(data.replace(claim, endless), tmp_path / "x"))
    assert time.monotonic() - begun < 1
    assert found is not None and (found.versions, found.offers) == ({"liba.so": ("A_1",)}, {"X_1"})
