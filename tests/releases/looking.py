"""Looking at an image that was made, without starting it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from assembler.elf import Elf, read
from assembler.oci import Platform
from assembler.reference import Reference
from assembler.sources.opening import Access
from assembler.view import View
from tests.releases.parts import Machine


def view(reference: str, machine: Machine, scratch: Path) -> View:
    """Read the image of a machine, contents and all."""
    scratch.mkdir()
    platform = Platform("linux", machine.architecture)
    with Access().open(Reference.parse(reference), platform) as source:
        return View.of(source, scratch, lambda _: True)


def brought(made: View, base_layers: int = 1) -> Iterator[tuple[str, Elf]]:
    """Yield path and content of each ELF file above the base."""
    for path in made.tree:
        entry = made.tree[path]
        found = read(made.content(path)) if entry.kind == "file" else None
        if found is not None and entry.layer >= base_layers:
            yield path, found


def unresolved(made: View, machine: Machine) -> list[str]:
    """Return what the loader would not find by a file's own run path and the system's folders."""
    server = "opt/tritonserver/lib/libtritonserver.so"  # has been loaded before any backend is
    problems = []
    for path, found in brought(made):
        origin = path.rpartition("/")[0]
        folders = [
            folder.replace("${ORIGIN}", origin).replace("$ORIGIN", origin)
            for folder in (*found.runpath, *found.rpath)
        ]
        for soname in found.needed:
            places = [*folders, machine.lib, "usr/lib", f"lib/{machine.triplet}", "lib"]
            there = any(made.tree.resolve(f"{place}/{soname}") for place in places)
            if not there and not server.endswith(f"/{soname}"):
                problems.append(f"{path}: {soname}")
    return problems
