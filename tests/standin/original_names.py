"""NVIDIA's binaries out of the nvidia-pytriton wheel, with the names they had in the image.

auditwheel renamed every library and set run paths. The original names are still in each file's
.dynstr, so the dynamic section and the version needs can be pointed back at them in place.
patchelf 0.14 damages these files ("version OPENSSL_3.0.3 not found").
"""

from __future__ import annotations

import re
import struct
from pathlib import Path

from elftools.elf.dynamic import DynamicSection
from elftools.elf.elffile import ELFFile
from elftools.elf.gnuversions import GNUVerNeedSection

_RENAMED = re.compile(r"^(lib.+?)-[0-9a-f]{8}(.*?\.so)(\..*)?$")
_DT_DEBUG = 21  # has no meaning in a library: a harmless tag to turn a run path into


def restore(path: Path) -> None:
    """Give the ELF file at `path` its original NEEDED, SONAME, version and RUNPATH names."""
    data = bytearray(path.read_bytes())
    with path.open("rb") as file:
        elf = ELFFile(file)
        dynamic = elf.get_section_by_name(".dynamic")
        assert isinstance(dynamic, DynamicSection)
        strings = elf.get_section(dynamic["sh_link"])
        table = strings.data()
        known = {s.decode(): None for s in table.split(b"\0") if s}

        def original(name: str) -> int | None:
            match = _RENAMED.match(name)
            if not match:
                return None
            stem = match[1] + match[2]
            fits = [k for k in known if k == stem or k.startswith(stem + ".")]
            # libnuma.so.1 and .so.2 are both texts in libtritonserver: take the file's own version.
            version = (match[3] or "").strip(".").split(".")[0]
            best = [k for k in fits if k == (f"{stem}.{version}" if version else stem)]
            chosen = (best or fits)[0]
            return table.index(b"\0" + chosen.encode() + b"\0") + 1

        for number, tag in enumerate(dynamic.iter_tags()):
            at = dynamic["sh_offset"] + number * 16
            if tag.entry.d_tag in ("DT_NEEDED", "DT_SONAME"):
                text = tag.needed if tag.entry.d_tag == "DT_NEEDED" else tag.soname
                where = original(text)
                if where is not None:
                    struct.pack_into("<q", data, at + 8, where)
            elif tag.entry.d_tag in ("DT_RPATH", "DT_RUNPATH"):
                text = tag.rpath if tag.entry.d_tag == "DT_RPATH" else tag.runpath
                first = text.split(":$ORIGIN/")[0].encode()
                where = table.find(b"\0" + first + b"\0")
                if first.startswith(b"${ORIGIN}") and where >= 0:
                    struct.pack_into("<qq", data, at, 29, where + 1)
                elif b"nvidia_pytriton.libs" in text.encode() or not first:
                    struct.pack_into("<qq", data, at, _DT_DEBUG, 0)
        for section in elf.iter_sections():
            if isinstance(section, GNUVerNeedSection):
                at = section["sh_offset"]
                for need, _ in section.iter_versions():
                    where = original(need.name)
                    if where is not None:
                        struct.pack_into("<I", data, at + 4, where)
                    at += need["vn_next"]
    path.write_bytes(data)


def original_name(file: str) -> str:
    """Return the name that a renamed file had: libcudart-8774224f.so.12.4.127 → libcudart.so.…"""
    match = _RENAMED.match(file)
    return match[1] + match[2] + (match[3] or "") if match else file
