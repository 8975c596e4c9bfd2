"""NVIDIA's and Microsoft's binaries, from PyPI; pip fetches, so its index and proxy apply."""

from __future__ import annotations

import sys
import zipfile
from collections.abc import Callable
from functools import cached_property
from pathlib import Path

from tests.standin.original_names import original_name, restore
from tests.standin.store import Store, run

PYTHON = "3.11"  # of Debian 12, so of the stub as well
ONNXRUNTIME = "1.18.0"  # what 24.05 was built with (server:r24.05:build.py, TRITON_VERSION_MAP)
PYTRITON = "nvidia-pytriton=={}"
_VERSION = "0.5.8"  # carries the binaries of 24.05
# No wheel of onnxruntime or onnxruntime-gpu 1.18 has the library itself; this one does.
_GENAI = "onnxruntime-genai==0.3.0"
_PLATFORMS = ("manylinux_2_35", "manylinux_2_31", "manylinux_2_28", "manylinux2014")


def download(folder: Path, *what: str, machine: str = "x86_64") -> None:
    """Fetch wheels for the image's Python and machine, whatever this one is."""
    platforms = [f"--platform={name}_{machine}" for name in _PLATFORMS]
    run(
        sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check",
        "--no-deps", "--only-binary=:all:", f"--python-version={PYTHON}", *platforms,
        "--dest", folder, *what,
    )  # fmt: skip


_OURS = ("libtritonserver", "libcudart", "libdcgm")


def _place(name: str, libraries: tuple[str, ...]) -> Path | None:
    """Return where a file of the nvidia-pytriton wheel belongs, None where that is nowhere."""
    top, ours = "pytriton/tritonserver/", "nvidia_pytriton.libs/"
    if name.endswith("/"):
        return None
    if name.startswith(top):
        return Path(name.removeprefix(top))
    # The rest of the libraries is Ubuntu's; the full image has Debian's instead.
    if name.startswith(tuple(f"{ours}{library}" for library in libraries)):
        return Path("lib", name.removeprefix(ours))
    return None


def unpack_triton(archive: Path, folder: Path, *more: str) -> None:
    """Unpack an nvidia-pytriton wheel, its files under the names they had.

    more: beginnings of the names of libraries that are wanted besides NVIDIA's own.
    """
    with zipfile.ZipFile(archive) as wheel:
        for name in wheel.namelist():
            inside = _place(name, _OURS + more)
            if inside is None:
                continue
            target = folder / inside.with_name(original_name(inside.name))
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(wheel.read(name))
            if target.read_bytes().startswith(b"\x7fELF"):
                restore(target)


class Wheels:
    """What is wanted of each wheel, unpacked."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def _unpacked(self, what: str, wanted: Callable[[str], bool]) -> Path:
        def make(folder: Path) -> None:
            download(folder, what)
            archive = next(folder.glob("*.whl"))
            with zipfile.ZipFile(archive) as wheel:
                wheel.extractall(folder, filter(wanted, wheel.namelist()))
            archive.unlink()

        name = what.partition("=")[0]
        return self._store.once(f"wheel-{name}", f"{what} {PYTHON}", make)

    @cached_property
    def triton(self) -> Path:
        """NVIDIA's files under the names they had, as below /opt/tritonserver.

        lib holds libcudart and libdcgm as well, and python_backend_stubs one folder per Python.
        """

        def make(folder: Path) -> None:
            download(folder, PYTRITON.format(_VERSION))
            archive = next(folder.glob("*.whl"))
            unpack_triton(archive, folder)
            archive.unlink()

        return self._store.once("triton", PYTRITON.format(_VERSION), make)

    @cached_property
    def onnxruntime(self) -> Path:
        """What runs of the package `onnxruntime`, with its licence."""

        def wanted(name: str) -> bool:
            head, _, rest = name.partition("/")
            runs = rest == "__init__.py" or rest.startswith("capi/")
            return head == "onnxruntime" and (runs or rest == "LICENSE")

        return self._unpacked(f"onnxruntime=={ONNXRUNTIME}", wanted) / "onnxruntime"

    @cached_property
    def onnxruntime_library(self) -> Path:
        """libonnxruntime.so of that version, which the official backend links."""
        folder = self._unpacked(_GENAI, lambda name: name.endswith("/libonnxruntime.so"))
        return folder / "onnxruntime_genai" / "libonnxruntime.so"
