"""What the files taken need, so that the loader finds all of it in the new image.

Every ELF file is asked for its sonames and symbol versions, every script for its interpreter.
A soname is looked up as ld.so(8) would in the new image with no cache and no LD_LIBRARY_PATH:
RUNPATH, then the system folders. What is not found there is taken from the full image, whole
Debian packages where it belongs to one, and linked into a system folder where it lies elsewhere;
so it is found before and after anybody runs ldconfig.
"""

from __future__ import annotations

import itertools
import posixpath
import re
from collections.abc import Iterable, Iterator

from assembler import elf
from assembler.errors import SelectionError, listing
from assembler.rootfs import RootFS
from assembler.selection import Selection

TRIPLETS = {
    "x86_64": "x86_64-linux-gnu",
    "aarch64": "aarch64-linux-gnu",
    "arm": "arm-linux-gnueabihf",
    "i386": "i386-linux-gnu",
    "ppc64": "powerpc64le-linux-gnu",
    "s390": "s390x-linux-gnu",
}
MACHINES = {"amd64": "x86_64", "arm64": "aarch64"}  # image-spec, config.md: GOARCH's names
_SHELL_PATH = ("usr/local/sbin", "usr/local/bin", "usr/sbin", "usr/bin", "sbin", "bin")


class Closure:
    """Completes a selection. `stage` is the name of the one that what is found goes to."""

    def __init__(self, selection: Selection, stage: str) -> None:
        self.selection = selection
        self.rootfs = selection.rootfs
        self.full = selection.rootfs.full
        self.stage = stage
        self._elves: dict[str, elf.Elf | None] = {}
        self._problems: list[str] = []
        # Folders that a file inherits: DT_RPATH, unlike DT_RUNPATH, holds for what a library loads
        # in its turn (ld.so(8)); auditwheel's wheels rely on it.
        self._inherited: dict[str, set[str]] = {}
        self._by_name: dict[str, list[str]] | None = None

    def run(self) -> None:
        """Take until nothing is missing. Raises SelectionError that lists all that is missing:
        file, soname and, where it is that, the symbol version.
        """
        self._machine = machine(self.rootfs)
        self._system = system_folders(self._machine)
        asked: set[str] = set()
        while todo := sorted(set(self.rootfs.nodes) - asked):
            # In one go: a fetch may mean to read a layer again.
            self.rootfs.fetch(todo)
            asked |= set(todo)
            for path in todo:
                self._ask(path)
            missing = [(path, name, self._in_full(path, name)) for path, name in self._missing()]
            firsts = [next(places, "") for _, _, places in missing]
            self.full.fetch(real for place in firsts if (real := self.full.tree.resolve(place)))
            for (path, soname, places), first in zip(missing, firsts, strict=True):
                self._bring(path, soname, itertools.chain([first] if first else [], places))
        for path, soname in self._missing():
            if not any(map(self._runs, self._in_full(path, soname))):
                of_others = f" for {self._machine}" if soname in (self._by_name or ()) else ""
                self._problems.append(
                    f"/{path} needs {soname}, which is neither in the base nor in the full image"
                    f"{of_others}"
                )
            elif not self._problems:  # What is damaged was said already.
                self._problems.append(f"/{path} needs {soname}, which was taken and is not found")
        self._check_versions()
        if self._problems:
            raise SelectionError(
                listing("the slim image would not run on this base", self._problems)
            )

    # -- asking ------------------------------------------------------------------------

    def _elf(self, path: str) -> elf.Elf | None:
        if path not in self._elves:
            content = self.rootfs.content(path)
            try:
                self._elves[path] = elf.read(content) if content else None
            except elf.BadElf as error:
                self._problems.append(f"/{path} is a damaged ELF file: {error}")
                self._elves[path] = None
        return self._elves[path]

    def _ask(self, path: str) -> None:
        node = self.rootfs.nodes[path]
        if node.kind != "file" or node.content is None or node.content.size < 4:
            return
        start = node.content.read(256)
        if start.startswith(elf.MAGIC):
            found = self._elf(path)
            if (
                found is not None
                and found.machine == self._machine
                and found.interpreter
                and self.rootfs.tree.resolve(found.interpreter) is None
            ):
                self._problems.append(
                    f"/{path} wants the loader {found.interpreter}, which the base has not "
                    "(a base of another libc?)"
                )
        elif start.startswith(b"#!") and node.mode & 0o111:
            self._interpreter(path, start)

    def _interpreter(self, path: str, start: bytes) -> None:
        words = start[2:].split(b"\n")[0].decode(errors="replace").split()
        if not words:
            return
        names = [words[0].lstrip("/")]
        if words[0].endswith("/env") and len(words) > 1 and "=" not in words[1]:
            name = next((word for word in words[1:] if not word.startswith("-")), "")
            names = [f"{folder}/{name}" for folder in _SHELL_PATH]
        if any(self.rootfs.tree.resolve(name) is not None for name in names):
            return
        for name in names:
            if self.full.tree.resolve(name) is not None:
                self._take(name, f"interpreter of /{path}")
                return

    def _asking(self) -> list[tuple[str, elf.Elf]]:
        """Return the files taken that the loader has work with; files of other machines (cross
        tools, firmware) are data to us.
        """
        return [
            (path, found)
            for path, found in self._elves.items()
            if found and found.machine == self._machine and path in self.rootfs.nodes
        ]

    def _missing(self) -> list[tuple[str, str]]:
        """Return (file, soname) for what the new image does not provide yet."""
        missing: list[tuple[str, str]] = []
        changed = True
        while changed:
            changed, missing = False, []
            for path, found in self._asking():
                hand_down = self._inherited.get(path, set())
                if not found.runpath:
                    hand_down = hand_down | set(self._folders(path, found))
                for soname in found.needed:
                    provider = self._provider(path, found, soname)
                    if provider is None:
                        if not self._loaded(found, soname):
                            missing.append((path, soname))
                        continue
                    known = self._inherited.setdefault(provider, set())
                    if not hand_down <= known:
                        known |= hand_down
                        changed = True
        return missing

    # -- finding -----------------------------------------------------------------------

    def _folders(self, path: str, found: elf.Elf) -> Iterator[str]:
        """Yield the folders that a file's own RUNPATH, or else RPATH, names."""
        origin = posixpath.dirname(path)
        for entry in found.runpath or found.rpath:
            text = re.sub(r"\$\{?ORIGIN\}?", f"/{origin}", entry)
            text = re.sub(r"\$\{?LIB\}?", f"lib/{TRIPLETS[self._machine]}", text)
            yield posixpath.normpath(text).lstrip("/")

    def _provider(self, path: str, found: elf.Elf, soname: str) -> str | None:
        """Return where the loader finds `soname` in the new image, or None."""
        if "/" in soname:
            return self.rootfs.tree.resolve(soname)
        inherited = () if found.runpath else sorted(self._inherited.get(path, ()))
        for folder in (*self._folders(path, found), *inherited, *self._system):
            real = self.rootfs.tree.resolve(f"{folder}/{soname}")
            if real is not None and self._fits(self._elf(real)):
                return real
        return None

    def _fits(self, found: elf.Elf | None) -> bool:
        return found is not None and found.machine == self._machine

    def _bring(self, path: str, soname: str, places: Iterable[str]) -> None:
        """Take `soname` out of the full image, from the first of `places` that has it for this
        machine; where it lies elsewhere than the loader looks, link it.
        """
        found, source = self._elves[path], next(filter(self._runs, places), None)
        if found is None or source is None:
            return
        reason = f"{soname} needed by /{path}"
        self._take(source, reason)
        link = f"{self._system[0]}/{soname}"
        folders = {*self._folders(path, found), *self._system}
        if source.rpartition("/")[0] not in folders and self.rootfs.tree.resolve(link) is None:
            self.rootfs.make_link(link, f"/{source}", self.stage, f"link for {reason}")

    def _loaded(self, found: elf.Elf, soname: str) -> str | None:
        """Return what already provides `soname` to a plug-in: a library of the selection that an
        executable of the selection loads. A backend's libtritonserver.so is the server's own.
        """
        if found.interpreter:
            return None
        for path, node in self.rootfs.nodes.items():
            if node.kind != "file" or not path.endswith(f"/{soname}"):
                continue
            users = (p for p, e in self._elves.items() if e and e.interpreter)
            for user in users:
                asked = self._elf(user)
                if asked and soname in asked.needed and self._provider(user, asked, soname) == path:
                    return path
        return None

    def _runs(self, place: str) -> bool:
        """Tell whether a library of the full image is for this machine. A damaged one may be."""
        real = self.full.tree.resolve(place)
        if real is None or self.full.tree[real].kind != "file":
            return False
        try:
            return self._fits(elf.read(self.full.content(real)))
        except elf.BadElf:
            return True  # It is said to be damaged, once it is taken.

    def _in_full(self, path: str, soname: str) -> Iterator[str]:
        """Yield where the full image has `soname`: by its own search order, then anywhere."""
        tree, found = self.full.tree, self._elves[path]
        assert found is not None
        node = self.rootfs.nodes[path]
        folders = [
            *self._folders(node.source_path or path, found),
            *self.full.env().get("LD_LIBRARY_PATH", "").split(":"),
            *self._configured(),
            *self._system,
        ]
        for folder in folders:
            if folder and tree.resolve(f"{folder}/{soname}") is not None:
                yield tree.physical(f"{folder}/{soname}") or ""
        if self._by_name is None:
            self._by_name = {}
            for candidate in tree:
                name = posixpath.basename(candidate)
                if ".so" in name:
                    self._by_name.setdefault(name, []).append(candidate)
        for candidate in sorted(self._by_name.get(soname, ())):
            # Stubs are for linking on machines without the real library, never for running.
            if "/stubs/" not in candidate and tree.resolve(candidate) is not None:
                yield candidate

    def _configured(self) -> list[str]:
        """Return the folders of the full image's ld.so.conf, with its includes, in order."""

        def lines(name: str) -> Iterator[str]:
            for line in (self.full.read_text(name) or "").splitlines():
                words = line.partition("#")[0].split()
                if words[:1] == ["include"]:
                    for glob in words[1:]:
                        folder, _, base = glob.lstrip("/").rpartition("/")
                        expression = re.compile(re.escape(base).replace(r"\*", ".*"))
                        for child in self.full.tree.children(folder):
                            if expression.fullmatch(child):
                                yield from lines(f"{folder}/{child}")
                elif words:
                    yield words[0].lstrip("/")

        return list(lines("etc/ld.so.conf"))

    def _take(self, path: str, reason: str) -> None:
        chain = self.full.tree.chain(path)
        database = self.selection.full
        for step in chain:
            owner = database.owners.get(step)
            if (
                owner
                and not self.selection.base.find(owner)
                and not self.selection.is_single(owner)
            ):
                self.selection.take_packages([database.packages[owner]], self.stage, reason)
            # A drop rule does not keep out what is needed to run.
            self.rootfs.take(step, self.stage, reason)

    # -- versions --------------------------------------------------------------------------

    def _check_versions(self) -> None:
        for path, found in sorted(self._asking()):
            for soname, versions in found.versions.items():
                provider = self._provider(path, found, soname) or self._loaded(found, soname)
                offer = self._elf(provider) if provider else None
                # A library that defines no versions is taken as it is by the loader as well.
                if provider is None or offer is None or not offer.offers:
                    continue
                for version in sorted(set(versions) - offer.offers):
                    whose = "the base's" if provider in self.rootfs.base.tree else "the image's"
                    self._problems.append(
                        f"/{path} needs {version} of {soname}; {whose} /{provider} goes up to "
                        f"{highest(offer.offers, version)}"
                    )


def machine(rootfs: RootFS) -> str:
    """Return the machine of the server's executable, which all else has to be of.

    SelectionError where there is none, or where the image's config names another machine: such
    images have been published (triton-inference-server/server #5717).
    """
    source = rootfs.full.source.reference
    for path in ("opt/tritonserver/bin/tritonserver", "usr/bin/env", "bin/sh"):
        content = rootfs.content(path)
        try:
            found = elf.read(content) if content else None
        except elf.BadElf:
            continue  # told with all the other problems, when it is asked what it needs
        if found is None or found.machine not in TRIPLETS:
            continue
        said = str(rootfs.full.config.get("architecture"))
        if MACHINES.get(said, found.machine) != found.machine:
            raise SelectionError(
                f"{source} says that it is for {said}, but its /{path} is for {found.machine}: "
                "it was published wrongly; choose another release"
            )
        return found.machine
    raise SelectionError(
        f"{source} has no ELF executable at /opt/tritonserver/bin/tritonserver: is it a Triton "
        "image?"
    )


def system_folders(machine: str) -> tuple[str, ...]:
    """Return where the loader of a machine looks last, without the leading slash (ld.so(8))."""
    triplet = TRIPLETS[machine]
    return (f"usr/lib/{triplet}", f"lib/{triplet}", "usr/lib", "lib", "usr/lib64", "lib64")


def highest(offers: frozenset[str], like: str) -> str:
    """Return the highest version offered of the same family (GLIBC_2.34 → GLIBC_…)."""
    family = like.rpartition("_")[0]
    same = [o for o in offers if o.startswith(f"{family}_") and o[len(family) + 1].isdigit()]
    number = lambda v: [int(n) for n in re.findall(r"\d+", v.rpartition("_")[2])]  # noqa: E731
    return max(same, key=number) if same else "none of its kind"
