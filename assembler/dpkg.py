"""The Debian package database of an image: what is installed, what it needs, what it owns.

Source: deb(5), dpkg-query(1); Debian Policy, chapter 7 (relationships).
"""

from __future__ import annotations

import fnmatch
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property

from assembler.errors import SelectionError
from assembler.view import View

STATUS = "var/lib/dpkg/status"
INFO = "var/lib/dpkg/info"

# What the first read of an image keeps, so that the database is at hand.
FILES = (STATUS, f"{INFO}/*")


@dataclass(frozen=True)
class Package:
    """An installed package. `stanza` is its text in the status file, without the empty line."""

    name: str
    version: str
    architecture: str
    stanza: str
    fields: dict[str, str]

    @cached_property
    def depends(self) -> tuple[tuple[str, ...], ...]:
        """What it needs: a tuple of alternatives for each relation; versions left out."""
        text = ", ".join(
            self.fields[key] for key in ("Pre-Depends", "Depends") if key in self.fields
        )
        return tuple(
            tuple(name for part in group.split("|") if (name := _bare(part)))
            for group in text.split(",")
            if group.strip()
        )

    @property
    def provides(self) -> tuple[str, ...]:
        """Virtual packages that it stands for."""
        return tuple(_bare(part) for part in self.fields.get("Provides", "").split(",") if part)


def _bare(relation: str) -> str:
    match = re.match(r"\s*([a-z0-9][a-z0-9.+-]*)", relation)
    return match[1] if match else ""


def _stanzas(text: str) -> Iterator[tuple[str, dict[str, str]]]:
    for stanza in re.split(r"\n\s*\n", text):
        fields: dict[str, str] = {}
        key = ""
        for line in stanza.splitlines():
            if line[:1] in (" ", "\t"):
                fields[key] = fields.get(key, "") + "\n" + line
            else:
                key, _, value = line.partition(":")
                fields[key] = value.strip()
        if "Package" in fields:
            yield stanza.strip("\n"), fields


def installed(status: str) -> Iterator[Package]:
    """Yield the packages that a status file lists as installed."""
    for stanza, fields in _stanzas(status):
        if fields.get("Status", "").endswith(" installed"):
            yield Package(
                fields["Package"],
                fields.get("Version", ""),
                fields.get("Architecture", ""),
                stanza,
                fields,
            )


class Database:
    """The packages installed in a view, of the architecture that most of them have."""

    def __init__(self, view: View) -> None:
        """Read the database; SelectionError where the image has none."""
        text = view.read_text(STATUS)
        if text is None:
            raise SelectionError(
                f"{view.source.reference} has no package database (/{STATUS}): "
                "the full image and the base must be made of Debian or Ubuntu packages "
                "(choose with --source and --base)"
            )
        self._view = view
        self.packages: dict[str, Package] = {}
        self._provided: dict[str, list[str]] = defaultdict(list)
        there = list(installed(text))
        several = Counter(each.architecture for each in there if each.architecture != "all")
        # Packages of another architecture may be there too, by the same names (multiarch).
        self._native = next(iter(several.most_common(1)), ("", 0))[0]
        for package in there:
            if package.architecture not in ("all", self._native):
                continue
            self.packages[package.name] = package
            for virtual in package.provides:
                self._provided[virtual].append(package.name)

    def find(self, name: str) -> Package | None:
        """Return the package of that name, or one that provides it, or None."""
        if name in self.packages:
            return self.packages[name]
        providers = self._provided.get(name)
        return self.packages[sorted(providers)[0]] if providers else None

    def matching(self, glob: str) -> list[Package]:
        """Return the packages whose names fit a glob, sorted by name."""
        return [self.packages[name] for name in sorted(fnmatch.filter(self.packages, glob))]

    def needs(self, roots: Iterable[Package], base: Database) -> dict[str, str]:
        """Return what `roots` need and `base` has not, roots included: name → who asked for it.

        Relations that the image itself does not meet (somebody used dpkg --force) are passed over.
        """
        taken: dict[str, str] = {}
        todo = [(package, "asked for") for package in roots]
        while todo:
            package, why = todo.pop()
            if package.name in taken or base.find(package.name):
                continue
            taken[package.name] = why
            for alternatives in package.depends:
                if any(base.find(name) for name in alternatives):
                    continue
                found = next((p for name in alternatives if (p := self.find(name))), None)
                if found is not None:
                    todo.append((found, f"needed by package {package.name}"))
        return taken

    # -- files -----------------------------------------------------------------------

    @cached_property
    def _info(self) -> dict[str, list[str]]:
        """Paths under dpkg/info by package name (`libc6:amd64.list` is libc6's)."""
        found: dict[str, list[str]] = defaultdict(list)
        for name in self._view.tree.children(INFO):
            package, _, architecture = name.rpartition(".")[0].partition(":")
            if architecture in ("", self._native):
                found[package].append(f"{INFO}/{name}")
        return found

    def info_files(self, package: Package) -> list[str]:
        """Return the paths of a package's own metadata under dpkg/info."""
        return self._info.get(package.name, [])

    def files(self, package: Package) -> list[str]:
        """Return the paths that a package owns, as it lists them, without the leading slash."""
        for path in self.info_files(package):
            if path.endswith(".list"):
                text = self._view.read_text(path) or ""
                return [line.strip("/") for line in text.splitlines() if line.strip("/.")]
        return []

    @cached_property
    def owners(self) -> dict[str, str]:
        """Name of the owning package by real path; folders are left out."""
        tree = self._view.tree
        self._view.fetch(
            path for paths in self._info.values() for path in paths if path.endswith(".list")
        )
        found: dict[str, str] = {}
        for package in self.packages.values():
            for path in self.files(package):
                real = tree.physical(path)
                if real is not None and tree[real].kind != "dir":
                    found[real] = package.name
        return found


def merged_status(base_text: str, added: Iterable[Package]) -> bytes:
    """Return a status file of the base's text followed by the stanzas of the packages added."""
    names = {package.name for package in added}
    kept = [stanza for stanza, fields in _stanzas(base_text) if fields["Package"] not in names] + [
        package.stanza for package in sorted(added, key=lambda p: p.name)
    ]
    return ("\n\n".join(kept) + "\n\n").encode()
