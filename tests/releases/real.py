"""A full image of each release whose real binaries PyPI has, as an OCI layout.

All but the server's layer is the 24.05 stand-in's own; what that layer of a release needs and
Debian 12 has not (OpenSSL 1.1, RE2 5, Boost 1.80, Python 3.8's library) comes out of the wheel too.
"""

from __future__ import annotations

import os
import shutil
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path

from assembler import releases
from assembler.elf import read
from assembler.layers import Content
from tests.releases import python38
from tests.releases.parts import AMD64, Machine
from tests.standin import server, tars
from tests.standin.blobs import Blobs, Layer
from tests.standin.build import Standin
from tests.standin.images import write_image
from tests.standin.settings import ENVIRONMENT, FULL
from tests.standin.store import Store, locked
from tests.standin.wheels import PYTHON, PYTRITON, Wheels, download, unpack_triton

# By release, the nvidia-pytriton that carries its binaries.
WHEELS = {
    "22.12": "0.1.5", "23.04": "0.2.5", "23.07": "0.4.0", "23.10": "0.4.2", "23.12": "0.5.0",
    "24.01": "0.5.2", "24.02": "0.5.3", "24.03": "0.5.6", "24.04": "0.5.7", "24.05": "0.5.8",
    "24.06": "0.5.9", "24.07": "0.5.10", "24.08": "0.5.11", "24.09": "0.5.12", "24.10": "0.5.14",
}  # fmt: skip
# What the server in the wheel calls itself, where that is not the release's version: no wheel has
# a later one for 22.12, and 2.28.0 is 22.11's.
VERSIONS = {"22.12": "2.28.0"}
# Their wheels have a stub for Python 3.8 alone, and its library without the standard library.
ONLY_PYTHON_38 = ("22.12", "23.04")
# The server takes no backend written in Python yet, so nothing can stand for ONNX Runtime's.
WITHOUT_ONNX = (*ONLY_PYTHON_38, "23.07")

_NOT_DEBIAN = {
    "20.04": ("libre2", "libssl", "libcrypto", "libpython3"),
    "22.04": ("libboost_filesystem",),
}
# Of the 24.05 stand-in's layers, those that are no CUDA and no server.
_SHARED = ("ADD file", "nvidia_entrypoint.sh", "userdel", "--no-install-recommends", "pip3 install",
           "rm -fr /opt/tritonserver", "docker/entrypoint.d/", "License.pdf",
           "sagemaker/serve")  # fmt: skip


@dataclass(frozen=True)
class Files:
    """What is taken out of a wheel. root: below /opt/tritonserver. stub: the stub's folder."""

    root: Path
    stub: Path


def wheel(work: Path, release: str, machine: str = "x86_64") -> Path:
    """Return the release's wheel, fetched once and kept."""
    folder = work / "pytriton" / WHEELS[release]
    with locked(folder):
        if not list(folder.glob(f"*{machine}.whl")):
            download(folder, PYTRITON.format(WHEELS[release]), machine=machine)
        return next(folder.glob(f"*{machine}.whl"))


def unpack(archive: Path, folder: Path, release: str) -> Files:
    """Unpack what a release needs and Debian 12 has not."""
    unpack_triton(archive, folder, *_NOT_DEBIAN[releases.table()[release].ubuntu])
    stubs = folder / "python_backend_stubs" / PYTHON
    return Files(folder, stubs if stubs.exists() else folder / "backends/python")


def build(work: Path, base: Standin, release: str, where: Path) -> Path:
    """Write the full image of `release` to the folder `where` and return it.

    work: keeps wheels. base: the 24.05 stand-in, most of whose layers are linked.
    """
    blobs, wheels = Blobs(where), Wheels(Store(work / "standin" / "parts"))
    chosen = [row for row in base.layers if any(text in row["made_by"] for text in _SHARED)]
    assert len(chosen) == len(_SHARED), [row["made_by"] for row in chosen]
    for row in chosen:
        name = row["digest"].removeprefix("sha256:")
        os.link(base.full / "blobs" / "sha256" / name, blobs.folder / name)
    shared = [Layer(r["diff_id"], r["digest"], r["size"], r["packed"]) for r in chosen]
    scratch = Path(tempfile.mkdtemp(dir=work))
    try:
        files = unpack(wheel(work, release), scratch, release)
        layer = blobs.layer(lambda tar: _fill(tar, base, files, wheels, release))
    finally:
        shutil.rmtree(scratch)
    history = [(row["made_by"], True) for row in chosen] + [("COPY build/install", True)]
    settings = FULL | {"Env": [f"{key}={value}" for key, value in environment(release).items()]}
    write_image(where, [*shared, layer], settings, history, f"{release}-py3", index=True)
    return where


def environment(release: str) -> dict[str, str]:
    """Return the environment of a release: triton-releases, 1c."""
    found = ENVIRONMENT | {
        "NVIDIA_TRITON_SERVER_VERSION": release,
        "TRITON_SERVER_VERSION": releases.table()[release].triton,
    }
    if release > "24.05":
        folder = "/opt/tritonserver/backends/onnxruntime:"
        found["LD_LIBRARY_PATH"] = found["LD_LIBRARY_PATH"].replace(folder, "")
    else:
        del found["PYTHONPATH"]
    if release < "23.09":
        del found["UCX_MEM_EVENTS"]
    return found


def _fill(tar: tarfile.TarFile, base: Standin, files: Files, wheels: Wheels, release: str) -> None:
    writer = server.Writer(tar)
    server.put_server(writer, files.root, releases.table()[release].triton)
    server.put_python(writer, files.root, files.stub)
    if release not in WITHOUT_ONNX:
        server.put_onnxruntime(writer, wheels)
    put_libraries(tar, files.root / "lib", AMD64)
    if release in ONLY_PYTHON_38 and python38.prefix():
        python38.fill(tar, base)


def put_libraries(tar: tarfile.TarFile, libraries: Path, machine: Machine) -> None:
    """Add the libraries of a wheel but the server's own, where upstream has them, with links."""
    for library in sorted(libraries.iterdir()):
        name = library.name
        if name == "libtritonserver.so":
            continue
        folder = machine.lib
        if name.startswith("libcudart"):
            version = ".".join(name.partition(".so.")[2].split(".")[:2])
            folder = f"usr/local/cuda-{version}/targets/{machine.cuda}/lib"
        elif name.startswith("libboost"):
            folder = "usr/lib"
        tars.add(tar, f"{folder}/{name}", library.read_bytes())
        found = read(Content(library, 0, library.stat().st_size, ""))
        assert found is not None
        if found.soname != name:
            tars.add_link(tar, f"{folder}/{found.soname}", name)
