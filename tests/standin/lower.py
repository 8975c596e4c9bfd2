"""The layers below the server: CUDA, TensorRT, packages, DCGM, Python, in upstream's order.

Order and commands: server:r24.05:build.py, dockerfile_prepare_container_linux.
"""

from __future__ import annotations

from pathlib import Path

from tests.standin import packages
from tests.standin.packages import INSTALL, Package
from tests.standin.settings import DCGM
from tests.standin.store import Store
from tests.standin.system import System
from tests.standin.wheels import Wheels, download

ENTRY = Path(__file__).parent / "entrypoint"
LIB = "usr/lib/x86_64-linux-gnu"
CUDA = "usr/local/cuda-12.4"
TARGET = f"{CUDA}/targets/x86_64-linux/lib"

# Upstream's common packages but the heaviest (clang, git, software-properties-common), for which
# ballast stands; python3-apt is why Python itself is in this layer and not in the Python one.
_COMMON = (
    "ca-certificates curl dirmngr gperf libb64-0d libcurl4-openssl-dev libgomp1 "
    "libgoogle-perftools-dev libjemalloc-dev libnuma-dev libre2-9 python3-apt wget"
)
_CLEAN = "apt-get clean; rm -rf /var/lib/apt/lists/* /var/log/*.log /var/log/apt/*"
_APT = f"apt-get -q update; apt-get -q install -y --no-install-recommends {{}}; {_CLEAN}"
# numpy 2 is not what 24.05 came with but what upstream's unpinned line gives since June 2024.
_WHEELS = (
    "pip==24.0", "wheel==0.43.0", "setuptools==70.0.0", "numpy==2.0.2",
    "virtualenv==20.26.2", "distlib==0.3.8", "filelock==3.14.0", "platformdirs==4.2.2",
)  # fmt: skip
_PIP = (
    "pip3 install --no-index --find-links /given --break-system-packages --no-cache-dir --quiet "
    "--root-user-action ignore --upgrade"
)
_PYTHON = f"""
{_APT.format("python3 libarchive-dev python3-pip libpython3-dev")}
{_PIP} pip
{_PIP} wheel setuptools numpy virtualenv
ln /usr/bin/python3.11 /usr/bin/python3.11-standin
"""
_USER = """
useradd triton-server
[ "$(id -u triton-server)" -eq 1000 ] && [ "$(id -g triton-server)" -eq 1000 ]
"""
_COMPAT = """
ln -sfn lib.real /usr/local/cuda/compat/lib
echo /usr/local/cuda/compat/lib > /etc/ld.so.conf.d/00-cuda-compat.conf
ldconfig
rm -f /usr/local/cuda/compat/lib
"""
# The first line is upstream's; the second leaves an opaque folder, which that has elsewhere.
_EMPTY = """
rm -fr /opt/tritonserver/*
rm -r /opt/nvidia/entrypoint.d; mkdir /opt/nvidia/entrypoint.d
"""


def cuda(wheels: Wheels) -> list[Package]:
    """Packages of CUDA 12.4, of which the runtime library is real."""
    version, cudart = "12.4.127-1", "libcudart.so.12.4.127"
    return [
        Package(
            "cuda-toolkit-12-4-config-common", version,
            files={
                "etc/ld.so.conf.d/000_cuda.conf": b"/usr/local/cuda/targets/x86_64-linux/lib\n",
                "etc/ld.so.conf.d/nvidia.conf": b"/usr/local/nvidia/lib\n/usr/local/nvidia/lib64\n",
            },
            links={"usr/local/cuda": "cuda-12.4", f"{CUDA}/lib64": "targets/x86_64-linux/lib"},
        ),
        Package(
            "cuda-cudart-12-4", version,
            files={f"{TARGET}/{cudart}": (wheels.triton / "lib" / cudart).read_bytes()},
            links={f"{TARGET}/libcudart.so.12": cudart},
            depends="cuda-toolkit-12-4-config-common",
        ),
        Package(
            "cuda-compat-12-4", "550.54.15-1",
            links={f"{CUDA}/compat/lib": "lib.real"},
            heavy={f"{CUDA}/compat/lib.real/libcuda.so.550.54.15": 4},
        ),
        _library("libcublas", "libcublasLt", "12.4.5.8", 40),
        _library("libcufft", "libcufft", "11.2.1.3", 24),
        _library("libcusparse", "libcusparse", "12.3.1.170", 24),
        _library("cuda-nvrtc", "libnvrtc", "12.4.127", 8),
    ]  # fmt: skip


def _library(package: str, library: str, version: str, part: int) -> Package:
    file = f"{library}.so.{version}"
    short = f"{library}.so.{version.partition('.')[0]}"
    return Package(
        f"{package}-12-4",
        f"{version}-1",
        links={f"{TARGET}/{short}": file},
        heavy={f"{TARGET}/{file}": part},
    )


def libraries() -> list[Package]:
    """Packages of cuDNN, TensorRT and NCCL."""
    return [
        Package("libcudnn9-cuda-12", "9.1.0.70-1",
                heavy={f"{LIB}/libcudnn_engines_precompiled.so.9.1.0": 35}),
        Package("libnvinfer10", "10.0.1.6-1+cuda12.4",
                heavy={f"{LIB}/libnvinfer.so.10.0.1": 20,
                       f"{LIB}/libnvinfer_builder_resource.so.10.0.1": 35}),
        Package("libnccl2", "2.21.5-1+cuda12.4", heavy={f"{LIB}/libnccl.so.2.21.5": 10}),
    ]  # fmt: skip


def dcgm(wheels: Wheels) -> list[Package]:
    """DCGM, of which the library that the server links is real."""
    library = f"{LIB}/libdcgm.so.{DCGM}"
    return [
        Package(
            "datacenter-gpu-manager", f"1:{DCGM}",
            files={library: (wheels.triton / f"lib/libdcgm.so.{DCGM}").read_bytes()},
            links={f"{LIB}/libdcgm.so.3": f"libdcgm.so.{DCGM}"},
            heavy={f"{LIB}/libdcgm_cublas_proxy12.so.{DCGM}": 60,
                   f"{LIB}/libdcgm_cublas_proxy11.so.{DCGM}": 38,
                   "usr/bin/dcgmi": 2},
        )
    ]  # fmt: skip


class Lower:
    """The layers' folders, each by the name it has below."""

    def __init__(self, store: Store, wheels: Wheels) -> None:
        self._store, self._wheels = store, wheels
        self.packages = {"cuda": cuda(wheels), "libraries": libraries(), "dcgm": dcgm(wheels)}
        system = self._system = System(store)
        self.base = system.base
        self.layers = {
            "cuda": self._install("cuda"),
            "libraries": self._install("libraries"),
            "entry": system.put(self._entry()),
            "user": system.step("user", _USER),
            "common": system.step("common", _APT.format(_COMMON), network=True),
            "dcgm": self._install("dcgm"),
            "compat": system.step("compat", _COMPAT),
            "python": system.step("python", _PYTHON, network=True, files=self._pip_wheels()),
            "empty": system.step("empty", _EMPTY),
        }

    def _install(self, name: str) -> Path:
        these = self.packages[name]
        sources = self._store.once(
            f"{name}-packages", repr(these), lambda folder: packages.write_all(these, folder)
        )
        return self._system.step(name, INSTALL, files=sources)

    def _entry(self) -> Path:
        """What the official base image has in /opt, of which later layers hide a part."""
        files = {
            "opt/nvidia/nvidia_entrypoint.sh": (ENTRY / "nvidia_entrypoint.sh").read_bytes(),
            "opt/nvidia/entrypoint.d/10-banner.txt": b"\n== a banner that a later layer hides ==\n",
            "opt/nvidia/entrypoint.d/12-hidden.sh": b"echo 'an opaque folder hides this'\n",
            "opt/tritonserver/backends/python/hidden.py": b"# a whiteout hides this\n",
            "etc/shinit_v2": b"# Read by shells, see ENV.\n",
        }

        def make(folder: Path) -> None:
            for name, data in files.items():
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                (folder / name).write_bytes(data)
                (folder / name).chmod(0o755)

        return self._store.once("entry", repr(files), make)

    def _pip_wheels(self) -> Path:
        return self._store.once(
            "pip-wheels", repr(_WHEELS), lambda folder: download(folder, *_WHEELS)
        )
