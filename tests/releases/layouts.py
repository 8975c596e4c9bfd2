"""Full images and bases of any release and machine, of some kB, as OCI layouts.

Source: upstream's build.py of each release's branch (users, owners, modes, environment).
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

from assembler import releases
from tests.releases.parts import Machine, Package, Release
from tests.releases.real import environment
from tests.standin import tars
from tests.standin.blobs import Blobs
from tests.standin.images import write_image
from tests.standin.settings import BASE, FULL

OPT = "opt/tritonserver"

# -- tars ---------------------------------------------------------------------------------------


def _add_packages(tar: tarfile.TarFile, packages: Iterable[Package]) -> None:
    for package in packages:
        for path, data in package.files.items():
            mode = 0o755 if "/bin/" in path else 0o644
            tars.add(tar, path, data, mode=mode)
        for path, target in package.links.items():
            tars.add_link(tar, path, target)
        listed = "".join(f"/{path}\n" for path in (*package.files, *package.links))
        tars.add(tar, f"var/lib/dpkg/info/{package.name}.list", f"/.\n{listed}".encode())


def _status(tar: tarfile.TarFile, packages: Iterable[Package], architecture: str) -> None:
    text = "".join(
        f"Package: {p.name}\nStatus: install ok installed\nArchitecture: {architecture}\n"
        f"Version: 1\nDepends: {p.depends}\n"
        + (f"Provides: {p.provides} (= 1)\n" if p.provides else "")
        + "\n"
        for p in packages
    )
    tars.add(tar, "var/lib/dpkg/status", text.encode())


def _ubuntu(tar: tarfile.TarFile, part: Release) -> None:
    for folder in ("bin", "lib", "sbin", "lib64"):
        tars.add_link(tar, folder, f"usr/{folder}")
    version = part.row.ubuntu
    tars.add(tar, "usr/lib/os-release", f'NAME="Ubuntu"\nVERSION_ID="{version}"\n'.encode())
    tars.add_link(tar, "etc/os-release", "../usr/lib/os-release")
    tars.add(tar, "etc/ld.so.conf", b"include /etc/ld.so.conf.d/*.conf\n")
    own = version == "24.04"
    users = "ubuntu:x:1000:1000:Ubuntu:/home/ubuntu:/bin/bash\n" if own else ""
    member = "ubuntu" if own else ""
    for path, text in {
        "passwd": f"root:x:0:0:root:/root:/bin/bash\n{users}",
        "group": f"root:x:0:\nadm:x:4:{member}\n" + ("ubuntu:x:1000:\n" if own else ""),
        "shadow": "root:*:1::::::\n" + ("ubuntu:!:1::::::\n" if own else ""),
        "gshadow": f"root:*::\nadm:*::{member}\n" + ("ubuntu:!::\n" if own else ""),
        "subuid": "ubuntu:100000:65536\n" if own else "",
    }.items():
        tars.add(tar, f"etc/{path}", text.encode())
    packages = part.base_packages()
    _add_packages(tar, packages)
    _status(tar, packages, part.machine.architecture)


def _triton(tar: tarfile.TarFile, part: Release) -> None:
    packages = part.packages()
    _add_packages(tar, packages)
    _status(tar, [*part.base_packages(), *packages], part.machine.architecture)
    tars.add(tar, "etc/ssl/certs/ca-certificates.crt", b"x\n")
    local = f"usr/local/lib/python{part.row.python}/dist-packages"
    tars.add(tar, f"{local}/numpy/version.py", b"# upstream's own\n")
    tars.add_folder(tar, "usr/lib/python3/dist-packages")
    if part.name < "24.11":
        tars.add(tar, "usr/local/bin/pip", b"#!/usr/bin/python3\n", mode=0o755)
        tars.add(tar, f"{local}/pip/__init__.py", b"# PyPI's\n")
    if part.boost:
        name = "libboost_filesystem.so.1.80.0"
        tars.add(tar, f"usr/lib/{name}", part.elf(name))
    tars.add(tar, "opt/nvidia/nvidia_entrypoint.sh", b"#!/bin/bash\n", mode=0o755)
    tars.add(tar, "opt/nvidia/entrypoint.d/10-banner.txt", b"x\n")
    # chown and chmod of upstream's COPY: a+rw up to 26.05, root's and u+rwX,go+rX since.
    late = part.name >= "26.06"
    owner, more = ((0, 0), 0) if late else ((1000, 1000), 0o022)
    tars.add_folder(tar, OPT, mode=0o755 | more, owner=owner)
    for path, data in part.server().items():
        if isinstance(data, str):
            tars.add_link(tar, f"{OPT}/{path}", data, owner=owner)
        else:
            program = path.endswith(("/tritonserver", "_stub"))
            mode = (0o755 if program else 0o644) | more
            tars.add(tar, f"{OPT}/{path}", data, mode=mode, owner=owner)


# -- layouts ------------------------------------------------------------------------------------


@lru_cache
def base(where: Path, ubuntu: str, machine: Machine) -> Path:
    """Return the base of an Ubuntu, written once below `where`."""
    name = next(row.name for row in releases.table().values() if row.ubuntu == ubuntu)
    folder = where / f"base-{ubuntu}-{machine.architecture}"
    layer = Blobs(folder).layer(lambda tar: _ubuntu(tar, Release(name, machine)))
    write_image(folder, [layer], BASE, [("ADD", True)], ubuntu, index=True,
                architecture=machine.architecture)  # fmt: skip
    return folder


def full(where: Path, name: str, machine: Machine) -> Path:
    """Write the full image of a release to `where`."""
    part, blobs = Release(name, machine), Blobs(where)
    layers = [
        blobs.layer(lambda tar: _ubuntu(tar, part)), blobs.layer(lambda tar: _triton(tar, part)),
    ]  # fmt: skip
    env = environment(name)
    if name >= "24.11":
        env["PIP_BREAK_SYSTEM_PACKAGES"] = "1"
    labels = FULL["Labels"] | {"org.opencontainers.image.version": part.row.ubuntu}
    settings = FULL | {"Env": [f"{k}={v}" for k, v in env.items()], "Labels": labels}
    history = [("ADD", True), ("COPY", True)]
    write_image(where, layers, settings, history, f"{name}-py3", index=True,
                architecture=machine.architecture)  # fmt: skip
    return where
