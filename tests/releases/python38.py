"""Python 3.8 for the stand-ins of 22.12 and 23.04, where this machine has one to lend.

STANDIN_PYTHON38 names its prefix (with bin/python3.8 and lib/python3.8). It takes the place of
Debian's as Ubuntu 20.04 has it: /usr/bin/python3, a standard library that also looks in
dist-packages, packages that own both; the library itself is the one in NVIDIA's wheel.
"""

from __future__ import annotations

import os
import re
import tarfile
from pathlib import Path

from tests.standin import tars
from tests.standin.build import Standin

_STANZA = (
    "Package: python3.8\nStatus: install ok installed\nArchitecture: amd64\nVersion: 3.8.10\n"
    "Depends: libc6\n\n"
)
_LEFT_OUT = {"__pycache__", "test", "site-packages", "idlelib", "lib2to3", "tkinter"}


def prefix() -> Path | None:
    """Return where it is, or None where there is none."""
    given = os.environ.get("STANDIN_PYTHON38")
    return Path(given) if given else None


def fill(tar: tarfile.TarFile, standin: Standin) -> None:
    """Add it to the uppermost layer of an image over the stand-in's layers."""
    source = prefix()
    assert source is not None
    library = source / "lib" / "python3.8"
    files = {"usr/bin/python3.8": source / "bin" / "python3.8"}
    for path in sorted(library.rglob("*")):
        inside = path.relative_to(library)
        left_out = _LEFT_OUT & set(inside.parts) or path.name.startswith("_tkinter")
        if path.is_file() and not left_out:
            files[f"usr/lib/python3.8/{inside}"] = path
    for name, path in files.items():
        tars.add(tar, name, path.read_bytes(), mode=0o755 if "/bin/" in name else 0o644)
    tars.add_link(tar, "usr/bin/python3", "python3.8")
    for name in ("pdb3", "pydoc3", "pygettext3"):
        tars.add(tar, f"usr/bin/.wh.{name}")
    local = "usr/lib/python3.8/site-packages/debian.pth"
    tars.add(tar, local, b"/usr/local/lib/python3.8/dist-packages\n")
    listed = "".join(f"/{name}\n" for name in (*files, local, "usr/bin/python3"))
    tars.add(tar, "var/lib/dpkg/info/python3.8.list", listed.encode())
    python3 = re.compile(r"(Package: python3\n(?:.+\n)*?)Depends: .*\n")
    text, count = python3.subn(r"\1Depends: python3.8\n", _status(standin))
    assert count == 1
    tars.add(tar, "var/lib/dpkg/status", (text + _STANZA).encode())


def _status(standin: Standin) -> str:
    """Return the package database as the stand-in's last layer of packages has it."""
    row = next(row for row in standin.layers if "pip3 install" in row["made_by"])
    blob = standin.full / "blobs" / "sha256" / row["digest"].removeprefix("sha256:")
    with tarfile.open(blob) as tar:
        file = tar.extractfile("var/lib/dpkg/status")
        assert file is not None
        return file.read().decode()
