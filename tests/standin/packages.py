"""Debian packages that stand for NVIDIA's: installed by the real dpkg, with ballast for content."""

from __future__ import annotations

import tarfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from hashlib import md5
from pathlib import Path

from tests.standin import ballast
from tests.standin.tars import add, add_tree

# Installs the packages whose trees lie in /given, and lets the loader know their libraries.
INSTALL = """
for tree in /given/*; do dpkg-deb -Znone --root-owner-group --build "$tree" /tmp >/dev/null; done
dpkg --install /tmp/*.deb
rm -f /tmp/*.deb /var/log/*.log
ldconfig
"""
_SEED = b"ballast\n"


@dataclass(frozen=True)
class Package:
    """A package. files: real content by path. links: targets by path.

    heavy: parts of the layer's ballast, by path.
    """

    name: str
    version: str
    files: Mapping[str, bytes] = field(default_factory=dict)
    links: Mapping[str, str] = field(default_factory=dict)
    heavy: Mapping[str, int] = field(default_factory=dict)
    depends: str = "libc6"

    @property
    def md5sums(self) -> str:
        """Where dpkg keeps the sums, as a path in the image."""
        return f"var/lib/dpkg/info/{self.name}.md5sums"

    def write(self, folder: Path) -> None:
        """Write the tree that dpkg-deb makes the package of; what is heavy is a few bytes yet."""
        content = {**self.files, **dict.fromkeys(self.heavy, _SEED)}
        for path, data in content.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(data)
            (folder / path).chmod(0o755 if path.startswith("usr/bin/") else 0o644)
        for path, target in self.links.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).symlink_to(target)
        control = folder / "DEBIAN"
        control.mkdir()
        (control / "control").write_text(
            f"Package: {self.name}\nVersion: {self.version}\nArchitecture: amd64\n"
            "Maintainer: cudatools <cudatools@nvidia.com>\nSection: multiverse/devel\n"
            f"Priority: optional\nDepends: {self.depends}\nDescription: stand-in for tests\n"
        )
        (control / "md5sums").write_text(self.sums(dict.fromkeys(self.heavy, 0)))

    def sums(self, sizes: Mapping[str, int]) -> str:
        """Return the text of md5sums; sizes: bytes of each heavy file, 0 before it has them."""
        found = {
            path: md5(data, usedforsecurity=False).hexdigest() for path, data in self.files.items()
        }
        for path, size in sizes.items():
            seed = md5(_SEED, usedforsecurity=False).hexdigest()
            found[path] = ballast.md5(path, size) if size else seed
        return "".join(f"{found[path]}  {path}\n" for path in sorted(found))


def write_all(packages: Iterable[Package], folder: Path) -> None:
    """Write each package's tree into a folder of its own."""
    for package in packages:
        (folder / package.name).mkdir()
        package.write(folder / package.name)


def fill(tar: tarfile.TarFile, layer: Path, packages: Iterable[Package], weight: int) -> None:
    """Add the layer that installing these left, its heavy files grown to `weight` bytes in all."""
    packages = list(packages)
    whole = sum(sum(package.heavy.values()) for package in packages) or 1
    sizes = {
        package.name: {
            path: max(weight * part // whole, 1000) for path, part in package.heavy.items()
        }
        for package in packages
    }
    heavy = {path for each in sizes.values() for path in each}
    regrown = {package.md5sums for package in packages if package.heavy}
    add_tree(tar, layer, without=heavy | regrown)
    for package in packages:
        for path, size in sizes[package.name].items():
            ballast.add(tar, path, size)
        if package.heavy:
            add(tar, package.md5sums, package.sums(sizes[package.name]).encode())
