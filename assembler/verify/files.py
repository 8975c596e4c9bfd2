"""The files of an image, read for the static part: one pass over its layers."""

from __future__ import annotations

import struct
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from assembler import elf, tree
from assembler.layers import Content
from assembler.reading import Reader
from assembler.sources import Source
from assembler.verify.checks import Failed
from assembler.view import View

TOP = "opt/tritonserver"
SERVER = f"{TOP}/bin/tritonserver"
LIBRARY = f"{TOP}/lib/libtritonserver.so"
STUB = f"{TOP}/backends/python/triton_python_backend_stub"

# What may be ELF, a script or a setting by its name. Data, byte code and sources are not kept.
_LIKELY = tree.matcher(
    [
        "{usr/,usr/local/,}{bin,sbin,libexec}/**", "**/*.so", "**/*.so.*", f"{TOP}/**",
        "opt/nvidia/*", "opt/nvidia/entrypoint.d/*", "opt/**/bin/*", "usr/local/**/bin/*",
        "etc/**", "**/numpy/version.py", "**/pyvenv.cfg", "usr/lib/git-core/*",
    ]
)  # fmt: skip
_DATA = tree.matcher([f"{TOP}/**/*.{{py,txt,pyi,h,pdf}}", "**/*.{py,pyc}", f"{TOP}/clients/**"])


class Files(View):
    """A `View` with what checks ask again and again. recorded: paths whose bytes are compared."""

    def __init__(self, source: Source, spool: Path, recorded: Collection[str]) -> None:
        def likely(path: str) -> bool:
            if path in recorded or path.endswith(("numpy/version.py", "numpy/_version.py")):
                return True
            return bool(_LIKELY.fullmatch(path)) and not _DATA.fullmatch(path)

        super().__init__(source, likely, Reader(source, spool))
        self._likely = likely
        self._elves: dict[str, elf.Elf | None] = {}
        self.damaged: dict[str, str] = {}

    @property
    def settings(self) -> dict[str, Any]:
        """What the image config says of containers."""
        return self.config.get("config") or {}

    @property
    def machine(self) -> str:
        """The machine of the server, as in elf.MACHINES; "" where it has none."""
        for path in (SERVER, LIBRARY, "usr/bin/env", "bin/sh"):
            real = self.tree.resolve(path)
            found = self.elf_at(real) if real else None
            if found:
                return found.machine
        return ""

    def kind(self, path: str) -> str:
        """Return what `path` leads to (file, dir, …), "" where it leads nowhere."""
        real = self.tree.resolve(path)
        return "" if real is None else self.tree[real].kind

    def is_executable(self, path: str) -> bool:
        """Tell whether `path` leads to a file that anybody may execute."""
        real = self.tree.resolve(path)
        return (
            real is not None and self.tree[real].kind == "file" and bool(self.tree[real].mode & 1)
        )

    def elf_at(self, path: str) -> elf.Elf | None:
        """Return the ELF file at a real path, None for what is none; a damaged one is noted."""
        if path not in self._elves:
            entry = self.tree[path]
            found = None
            if entry.kind == "file" and entry.size >= 64:
                content = self.content(path)
                try:
                    found = elf.read(content)
                    if found and _is_cut(content):
                        self.damaged[path] = "it is truncated: its section headers lie beyond it"
                except elf.BadElf as error:
                    self.damaged[path] = str(error)
            self._elves[path] = found
        return self._elves[path]

    def elves(self) -> Iterator[tuple[str, elf.Elf]]:
        """Yield all ELF files of the server's machine among those likely to be."""
        machine = self.machine
        paths = [p for p in self.tree if self.tree[p].kind == "file" and self._likely(p)]
        for path in paths:
            found = self.elf_at(path)
            if found is not None and found.machine == machine:
                yield path, found

    def backends(self) -> dict[str, str]:
        """Return by name the file that is each backend: its library, or its model.py."""
        found = {}
        for name in self.tree.children(f"{TOP}/backends"):
            folder = f"{TOP}/backends/{name}"
            for path in (f"{folder}/libtriton_{name}.so", f"{folder}/model.py"):
                if self.kind(path) == "file":
                    found[name] = path
                    break
        return found

    def search_path(self) -> list[str]:
        """Return the folders of PATH in the image's environment."""
        default = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        return [f.strip("/") for f in self.env().get("PATH", default).split(":") if f]

    def which(self, name: str) -> str | None:
        """Return the first executable of that name on PATH, as a path that may be a link."""
        for folder in self.search_path():
            if self.is_executable(f"{folder}/{name}"):
                return f"{folder}/{name}"
        return None

    def need(self, path: str) -> str:
        """Return the real path of what must be there; Failed where it is not."""
        real = self.tree.resolve(path)
        if real is None:
            link = self.tree.physical(path)
            raise Failed(f"/{path} is {'a dangling link' if link else 'missing'}")
        return real


def _is_cut(content: Content) -> bool:
    """Tell whether the section headers, which stand at the end of a file, lie beyond it.

    The loader reads none of them, so a library that lost its tail there would still be loaded.
    """
    head = content.read(64)
    wide, order = head[4] == 2, "<" if head[5] == 1 else ">"
    at = struct.unpack_from(f"{order}Q" if wide else f"{order}I", head, 40 if wide else 32)[0]
    size, count = struct.unpack_from(f"{order}HH", head, 58 if wide else 46)
    return bool(at) and at + size * count > content.size
