"""What the dynamic loader finds in an image: ld.so(8)'s search, with nothing run.

Order: DT_RPATH of the file and of those that loaded it (where the file has no DT_RUNPATH),
LD_LIBRARY_PATH of the image's environment, DT_RUNPATH, ld.so.cache, the system folders.
"""

from __future__ import annotations

import posixpath
import re
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

from assembler import elf
from assembler.closure import TRIPLETS, system_folders
from assembler.verify.files import Files


@dataclass(frozen=True)
class Need:
    """A file that needs a soname, and the real path that it is found at; None where it is not."""

    path: str
    soname: str
    provider: str | None


class Loader:
    """Follows what files need. library_path: the value of LD_LIBRARY_PATH; as in the image's
    environment where it is None.
    """

    def __init__(self, files: Files, library_path: str | None = None) -> None:
        self.files = files
        self.machine = files.machine
        given = files.env().get("LD_LIBRARY_PATH", "") if library_path is None else library_path
        self.library_path = [f.strip("/") for f in re.split("[:;]", given) if f.strip("/")]
        self._system = system_folders(self.machine) if self.machine in TRIPLETS else ()
        self._found: dict[tuple[tuple[str, ...], str], str | None] = {}

    def load(self, root: str, loaded: Mapping[str, str] | None = None) -> list[Need]:
        """Return what is asked for when the file at `root` is loaded, breadth first.

        loaded: real paths by soname of what the process has already, which is not searched for.
        """
        have = dict(loaded or {})
        needs: list[Need] = []
        todo: list[tuple[str, tuple[str, ...]]] = [(root, ())]
        seen = {root}
        while todo:
            path, inherited = todo.pop(0)
            found = self.files.elf_at(path)
            if found is None:
                continue
            own = tuple(self._folders(path, found.rpath)) if not found.runpath else ()
            rpaths = own + tuple(f for f in inherited if f not in own)
            for soname in found.needed:
                provider = have.get(soname) or self._search(path, found, soname, rpaths)
                needs.append(Need(path, soname, provider))
                if provider is None:
                    continue
                have[soname] = provider
                if provider not in seen:
                    seen.add(provider)
                    todo.append((provider, rpaths))
        return needs

    def _folders(self, path: str, entries: tuple[str, ...]) -> Iterator[str]:
        origin = posixpath.dirname(path)
        for entry in entries:
            text = re.sub(r"\$\{?ORIGIN\}?", f"/{origin}", entry)
            text = re.sub(r"\$\{?LIB\}?", f"lib/{TRIPLETS.get(self.machine, '')}", text)
            yield posixpath.normpath(text).lstrip("/")

    def _search(
        self, path: str, found: elf.Elf, soname: str, rpaths: tuple[str, ...]
    ) -> str | None:
        if "/" in soname:
            return self._fitting(soname)
        runpath = tuple(self._folders(path, found.runpath))
        before = () if found.runpath else rpaths
        key = ((*before, "|", *runpath), soname)
        if key not in self._found:
            places = [*before, *self.library_path, *runpath]
            paths = [f"{folder}/{soname}" for folder in places]
            paths += self.cache.get(soname, [])
            paths += [f"{folder}/{soname}" for folder in self._system]
            self._found[key] = next((r for p in paths if (r := self._fitting(p))), None)
        return self._found[key]

    def _fitting(self, path: str) -> str | None:
        """Return the real path of a library of the right machine; the loader passes over others.

        A damaged one is not passed over: there the search ends, with an error when it starts.
        """
        real = self.files.tree.resolve(path)
        if real is None or self.files.tree[real].kind != "file":
            return None
        found = self.files.elf_at(real)
        fits = real in self.files.damaged or (found is not None and found.machine == self.machine)
        return real if fits else None

    @cached_property
    def cache(self) -> dict[str, list[str]]:
        """Paths by soname of /etc/ld.so.cache (glibc: sysdeps/generic/dl-cache.h)."""
        data = self.files.read("etc/ld.so.cache") or b""
        start = data.find(b"glibc-ld.so.cache1.1")
        found: dict[str, list[str]] = {}
        if start < 0:
            return found
        data = data[start:]
        try:
            count = struct.unpack_from("<I", data, 20)[0]
            for number in range(count):
                key, value = struct.unpack_from("<II", data, 48 + number * 24 + 4)
                name, path = (data[at : data.index(b"\0", at)].decode() for at in (key, value))
                if "/glibc-hwcaps/" not in path:
                    found.setdefault(name, []).append(path.lstrip("/"))
        except (struct.error, ValueError):
            return {}  # The loader takes a damaged cache for none as well.
        return found
