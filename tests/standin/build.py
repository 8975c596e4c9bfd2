"""The base and the full stand-in image, layer by layer, in the official order.

base: debootstrap's minimal Debian 12, which stands for ubuntu. full: CUDA, Debian packages put in
by apt, DCGM, what pip puts over them, the user, /opt/tritonserver, /usr/bin/serve. What is not
there to be taken is ballast.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.standin import ballast
from tests.standin.blobs import Blobs, add, add_tree, write_image
from tests.standin.original_names import restore

MB = 1_000_000
HERE = Path(__file__).parent
RELEASE, TRITON, WHEEL = "24.05", "2.46.0", "0.5.8"
LIB = "usr/lib/x86_64-linux-gnu"
CUDA = "usr/local/cuda-12.4/targets/x86_64-linux/lib"
TRITON_OWNER = (1000, 1000)
# Most of it is what upstream's build.py installs for 24.05 (server:r24.05:build.py:1130).
PACKAGES = (
    "python3",
    "python3-pip",
    "libpython3-dev",
    "libarchive-dev",
    "libb64-0d",
    "libcurl4-openssl-dev",
    "libnuma-dev",
    "libxml2",
    "libre2-9",
    "ca-certificates",
    "curl",
    "wget",
    "libgomp1",
)
SHELL_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True)
class Standin:
    """Layout folders of the two images, and the digests that their tags name."""

    full: Path
    base: Path
    full_digest: str
    base_digest: str
    tag: str = f"{RELEASE}-py3"


def _run(*command: str | Path, **given: Any) -> str:
    done = subprocess.run(
        [str(word) for word in command], check=False, capture_output=True, text=True, **given
    )
    if done.returncode:
        raise RuntimeError(f"{command[0]} failed: {(done.stderr or done.stdout)[-2000:]}")
    return done.stdout


def _pip_download(folder: Path, *what: str, python: str = "3.11") -> None:
    _run(
        sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", folder,
        "--only-binary=:all:", f"--python-version={python}", *what,
    )  # fmt: skip


def _debian_mirror() -> str:
    """Return the mirror that this machine's own apt uses."""
    for path in [Path("/etc/apt/sources.list"), *Path("/etc/apt/sources.list.d").glob("*")]:
        if path.is_file():
            match = re.search(r"^(?:URIs:|deb(?: \[.*?\])?)\s+(\S*/debian/?)(?:\s|$)",
                              path.read_text(), re.MULTILINE)  # fmt: skip
            if match:
                return match[1]
    raise RuntimeError("this machine's apt sources name no Debian mirror")


class Builder:
    """Makes the parts under `work`, each once; what is there is used again."""

    def __init__(self, work: Path) -> None:
        self.work = work
        self.uppers: list[Path] = []
        work.mkdir(parents=True, exist_ok=True)

    def once(self, name: str, make: Callable[[Path], None]) -> Path:
        """Return the folder `name`, made by `make` in full or not at all."""
        folder = self.work / name
        if not folder.exists():
            making = self.work / f"{name}.making"
            shutil.rmtree(making, ignore_errors=True)
            making.mkdir()
            make(making)
            making.rename(folder)
        return folder

    @property
    def base(self) -> Path:
        def make(folder: Path) -> None:
            _run("debootstrap", "--variant=minbase", "bookworm", folder, _debian_mirror())
            for part in ("var/cache/apt", "var/lib/apt/lists"):
                shutil.rmtree(folder / part)
                (folder / part).mkdir()
            for log in (folder / "var/log").rglob("*.log"):
                log.unlink()
            shutil.rmtree(folder / "dev")
            (folder / "dev").mkdir()

        return self.once("base", make)

    @contextmanager
    def over(self, lowers: list[Path], upper: Path) -> Iterator[Path]:
        """Mount an overlay: what is done to the folder yielded is left in `upper`."""
        root, scratch = self.work / "merged", self.work / "scratch"
        for folder in (root, scratch, upper):
            folder.mkdir(exist_ok=True)
        below = ":".join(map(str, lowers))
        _run("mount", "-t", "overlay", "overlay", "-o",
             f"lowerdir={below},upperdir={upper},workdir={scratch}", root)  # fmt: skip
        try:
            _run("mount", "--bind", "/dev", root / "dev")
            try:
                yield root
            finally:
                _run("umount", root / "dev")
        finally:
            _run("umount", root)
            shutil.rmtree(scratch, ignore_errors=True)

    @property
    def apt(self) -> Path:
        def make(folder: Path) -> None:
            with self.over([self.base], folder) as root:
                shutil.copy("/etc/resolv.conf", root / "etc/resolv.conf")
                (root / "usr/sbin/policy-rc.d").write_text("#!/bin/sh\nexit 101\n")
                env = {
                    "DEBIAN_FRONTEND": "noninteractive",
                    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                    "HOME": "/",
                }
                for words in (["update"], ["install", "-y", "--no-install-recommends", *PACKAGES]):
                    _run("chroot", root, "apt-get", "-q", *words, env=env)
                for part in ("var/lib/apt/lists", "var/cache/apt", "var/log"):
                    shutil.rmtree(root / part)
                    (root / part).mkdir()
                for name in ("etc/resolv.conf", "usr/sbin/policy-rc.d"):
                    (root / name).unlink()
                # A hardlink of a wanted file, as some packages carry them.
                os.link(root / "usr/bin/python3.11", root / "usr/bin/python3.11-standin")

        return self.once("apt", make)

    @property
    def pip(self) -> Path:
        wheels = self.once(
            "pip-wheels",
            lambda folder: _pip_download(folder, "pip", "wheel", "setuptools<81", "numpy==2.0.2"),
        )

        def make(folder: Path) -> None:
            with self.over([self.apt, self.base], folder) as root:
                shutil.copytree(wheels, root / "wheels")
                _run("chroot", root, "python3", "-m", "pip", "install", "--upgrade", "--quiet",
                     "--break-system-packages", "--no-index", "--find-links=/wheels",
                     "--root-user-action=ignore", "pip", "wheel", "setuptools", "numpy",
                     env={"PATH": SHELL_PATH, "HOME": "/"})  # fmt: skip
                shutil.rmtree(root / "wheels")

        return self.once("pip", make)

    @property
    def loader_cache(self) -> Path:
        """The loader's cache of the full image, made by ldconfig as in the official one."""

        def make(folder: Path) -> None:
            upper = folder / "upper"
            upper.mkdir()
            layer = io.BytesIO()
            with tarfile.open(fileobj=layer, mode="w") as tar:
                for fill in (_cuda(self, 1000), _dcgm(self, 1000)):
                    fill(tar)
            layer.seek(0)
            with tarfile.open(fileobj=layer) as tar:
                tar.extractall(upper, filter="tar")
            with self.over([self.pip, self.apt, self.base], upper) as root:
                _run("ldconfig", "-r", root)
            shutil.move(upper / "etc/ld.so.cache", folder / "ld.so.cache")
            shutil.rmtree(upper)

        return self.once("loader-cache", make) / "ld.so.cache"

    @property
    def triton(self) -> Path:
        """NVIDIA's files under their original names: server, python backend, libcudart, libdcgm."""

        def make(folder: Path) -> None:
            _pip_download(folder, f"nvidia-pytriton=={WHEEL}")
            archive = next(folder.glob("*.whl"))
            with zipfile.ZipFile(archive) as wheel:
                for name in wheel.namelist():
                    if "/tritonserver/" in name or re.search(r"libs/lib(cudart|dcgm|triton)", name):
                        wheel.extract(name, folder)
            archive.unlink()
            for path in [*folder.rglob("*.so*"), *folder.rglob("tritonserver"),
                         *folder.rglob("triton_python_backend_stub")]:  # fmt: skip
                if path.is_file():
                    restore(path)

        return self.once(f"pytriton-{WHEEL}", make)

    @property
    def onnxruntime(self) -> Path:
        """PyPI's ONNX Runtime of the release, for the Python of the stub."""

        def make(folder: Path) -> None:
            _pip_download(folder, "onnxruntime==1.18.0")
            archive = next(folder.glob("*.whl"))
            with zipfile.ZipFile(archive) as wheel:
                wheel.extractall(folder)
            archive.unlink()

        return self.once("onnxruntime-1.18.0", make)


# -- the layers ----------------------------------------------------------------------------------


def _cuda(parts: Builder, size: int) -> Callable[[tarfile.TarFile], None]:
    def fill(tar: tarfile.TarFile) -> None:
        libs = parts.triton / "nvidia_pytriton.libs"
        cudart = next(libs.glob("libcudart-*")).read_bytes()
        for folder in ("usr/local/cuda-12.4/", "usr/local/cuda-12.4/targets/",
                       "usr/local/cuda-12.4/targets/x86_64-linux/", f"{CUDA}/"):  # fmt: skip
            add(tar, folder)
        add(tar, "usr/local/cuda", link="cuda-12.4")
        add(tar, "usr/local/cuda-12.4/lib64", link="targets/x86_64-linux/lib")
        add(tar, f"{CUDA}/libcudart.so.12.4.127", cudart)
        add(tar, f"{CUDA}/libcudart.so.12", link="libcudart.so.12.4.127")
        add(tar, "etc/ld.so.conf.d/000_cuda.conf", b"/usr/local/cuda/targets/x86_64-linux/lib\n")
        ballast.add(tar, f"{CUDA}/libcublasLt.so.12.4.5.8", size // 2)
        ballast.add(tar, f"{CUDA}/libcufft.so.11.2.1.3", size // 4)
        ballast.add(tar, f"{CUDA}/libcusparse.so.12.3.1.170", size // 4)

    return fill


def _min(size: int) -> Callable[[tarfile.TarFile], None]:
    def fill(tar: tarfile.TarFile) -> None:
        ballast.add(tar, f"{LIB}/libcudnn_engines_precompiled.so.9.1.0", size // 2)
        ballast.add(tar, f"{LIB}/libnvinfer.so.10.0.1", size // 2)
        # A folder that a later layer replaces, and a file that one deletes.
        add(tar, "opt/nvidia/old/")
        add(tar, "opt/nvidia/old/gone.txt", b"the opaque folder hides this\n")
        add(tar, "opt/nvidia/deleted.txt", b"the whiteout hides this\n")
        add(tar, "opt/nvidia/entrypoint.d/")
        for path in sorted((HERE / "entrypoint").iterdir()):
            if path.name == "serve":
                continue
            where = "" if path.name == "nvidia_entrypoint.sh" else "entrypoint.d/"
            add(tar, f"opt/nvidia/{where}{path.name}", path.read_bytes(), mode=0o755)

    return fill


def _dcgm(parts: Builder, size: int) -> Callable[[tarfile.TarFile], None]:
    def fill(tar: tarfile.TarFile) -> None:
        libs = parts.triton / "nvidia_pytriton.libs"
        add(tar, f"{LIB}/libdcgm.so.3.2.6", next(libs.glob("libdcgm-*")).read_bytes())
        add(tar, f"{LIB}/libdcgm.so.3", link="libdcgm.so.3.2.6")
        ballast.add(tar, f"{LIB}/libdcgm_cublas_proxy12.so.3.2.6", size)
        status = (parts.apt / "var/lib/dpkg/status").read_text()
        status += (
            "Package: datacenter-gpu-manager\nStatus: install ok installed\nPriority: optional\n"
            "Section: misc\nMaintainer: NVIDIA\nArchitecture: amd64\nVersion: 1:3.2.6\n"
            "Depends: libgomp1\nDescription: GPU management (stand-in)\n\n"
        )
        add(tar, "var/lib/dpkg/status", status.encode())
        listed = [f"/{LIB}/libdcgm.so.3.2.6", f"/{LIB}/libdcgm.so.3",
                  f"/{LIB}/libdcgm_cublas_proxy12.so.3.2.6"]  # fmt: skip
        add(
            tar, "var/lib/dpkg/info/datacenter-gpu-manager.list", "\n".join(listed).encode() + b"\n"
        )
        add(tar, "opt/nvidia/.wh.deleted.txt")
        add(tar, "opt/nvidia/old/")
        add(tar, "opt/nvidia/old/.wh..wh..opq")
        add(tar, "opt/nvidia/old/kept.txt", b"put in with the opaque mark\n")

    return fill


def _users(parts: Builder) -> Callable[[tarfile.TarFile], None]:
    def fill(tar: tarfile.TarFile) -> None:
        def lines(name: str, more: str, mode: int = 0o644) -> None:
            upper = parts.apt / "etc" / name
            text = (upper if upper.exists() else parts.base / "etc" / name).read_text()
            add(tar, f"etc/{name}", (text + more).encode(), mode=mode)

        lines("passwd", "triton-server:x:1000:1000::/home/triton-server:/bin/sh\n")
        lines("group", "triton-server:x:1000:\n")
        add(tar, "etc/ld.so.cache", parts.loader_cache.read_bytes())
        lines("shadow", "triton-server:!:19868:0:99999:7:::\n", 0o640)

    return fill


def _server(parts: Builder, size: int) -> Callable[[tarfile.TarFile], None]:
    files = parts.triton / "pytriton/tritonserver"
    libs = parts.triton / "nvidia_pytriton.libs"
    top = "opt/tritonserver"

    def fill(tar: tarfile.TarFile) -> None:
        def put(name: str, data: bytes, mode: int = 0o644) -> None:
            add(tar, f"{top}/{name}", data, mode=mode, owner=TRITON_OWNER)

        def folders(*names: str) -> None:
            for name in names:
                add(tar, f"{top}/{name}/" if name else f"{top}/", owner=TRITON_OWNER)

        def heavy(name: str, share: int) -> None:
            ballast.add(tar, f"{top}/{name}", max(size * share // 100, 1000), TRITON_OWNER)

        folders("", "bin", "lib", "include", "include/triton", "include/triton/core", "backends",
                "backends/python", "backends/onnxruntime", "repoagents", "repoagents/checksum",
                "caches", "caches/local", "caches/redis", "third-party-src", "python")  # fmt: skip
        put("bin/tritonserver", (files / "bin/tritonserver").read_bytes(), 0o755)
        put("lib/libtritonserver.so", next(libs.glob("libtritonserver-*")).read_bytes())
        put("include/triton/core/tritonserver.h", b"/* header */\n")
        put("LICENSE", b"BSD-3-Clause, NVIDIA (stand-in for the text)\n")
        put("TRITON_VERSION", f"{TRITON}\n".encode())
        put("NVIDIA_Deep_Learning_Container_License.pdf", b"%PDF stand-in\n")
        python = files / "backends/python"
        put("backends/python/libtriton_python.so", (python / "libtriton_python.so").read_bytes())
        stub = files / "python_backend_stubs/3.11/triton_python_backend_stub"
        put("backends/python/triton_python_backend_stub", stub.read_bytes(), 0o755)
        utils = "triton_python_backend_utils.py"
        put(f"backends/python/{utils}", (python / utils).read_bytes())
        local = "caches/local/libtritoncache_local.so"
        put(local, (files / local).read_bytes())
        heavy("third-party-src/src.tar.gz", 1)
        for name in ("caches/redis/libtritoncache_redis.so",
                     "repoagents/checksum/libtritonrepoagent_checksum.so"):  # fmt: skip
            ballast.add(tar, f"{top}/{name}", 100_000, TRITON_OWNER)
        put("python/tritonserver-2.46.0-py3-none-any.whl", b"stand-in\n")
        _onnxruntime(parts, tar, put, heavy)
        for name, share in (("tensorrt", 1), ("pytorch", 30), ("openvino", 5), ("fil", 8),
                            ("dali", 10), ("tensorflow", 15), ("identity", 0), ("repeat", 0),
                            ("square", 0)):  # fmt: skip
            folders(f"backends/{name}")
            heavy(f"backends/{name}/libtriton_{name}.so", share)

    return fill


def _onnxruntime(
    parts: Builder,
    tar: tarfile.TarFile,
    put: Callable[..., None],
    heavy: Callable[[str, int], None],
) -> None:
    here = "backends/onnxruntime"
    put(f"{here}/model.py", (HERE / "onnxruntime_model.py").read_bytes())
    packages = parts.onnxruntime / "onnxruntime"
    for path in sorted(packages.rglob("*")):
        inside = path.relative_to(packages)
        if path.is_file() and inside.parts[0] in ("__init__.py", "capi"):
            put(f"{here}/packages/onnxruntime/{inside}", path.read_bytes())
    for name, share in (("libonnxruntime_providers_cuda.so", 18),
                        ("libonnxruntime_providers_tensorrt.so", 1),
                        ("libonnxruntime_providers_openvino.so", 1), ("libopenvino.so.2330", 4),
                        ("libopenvino_c.so.2330", 1), ("libopenvino_ir_frontend.so.2330", 1),
                        ("libopenvino_intel_cpu_plugin.so", 3), ("libtbb.so.12", 1),
                        ("onnxruntime_perf_test", 0), ("onnx_test_runner", 0)):  # fmt: skip
        heavy(f"{here}/{name}", share)
    put(f"{here}/libonnxruntime_providers_shared.so", b"ballast: the bridge to providers\n")
    put(f"{here}/LICENSE", b"MIT, Microsoft (stand-in for the text)\n")
    put(f"{here}/LICENSE.openvino", b"Apache-2.0 (stand-in for the text)\n")
    for name in ("libopenvino.so", "libopenvino_c.so"):
        add(tar, f"opt/tritonserver/{here}/{name}", link=f"{name}.2330", owner=TRITON_OWNER)


ENV = {
    "PATH": "/opt/tritonserver/bin:/usr/local/mpi/bin:/usr/local/nvidia/bin:/usr/local/cuda/bin:"
    "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "CUDA_VERSION": "12.4.1.003",
    "CUDA_DRIVER_VERSION": "550.54.15",
    "NVIDIA_VISIBLE_DEVICES": "all",
    "NVIDIA_DRIVER_CAPABILITIES": "compute,utility,video",
    "NVIDIA_REQUIRE_CUDA": "cuda>=9.0",
    "LD_LIBRARY_PATH": "/opt/tritonserver/backends/onnxruntime:/usr/local/cuda/compat/lib:"
    "/usr/local/nvidia/lib:/usr/local/nvidia/lib64",
    "TRITON_SERVER_VERSION": TRITON,
    "NVIDIA_TRITON_SERVER_VERSION": RELEASE,
    "TF_ADJUST_HUE_FUSED": "1",
    "TRITON_SERVER_GPU_ENABLED": "1",
    "TRITON_SERVER_USER": "triton-server",
    "DEBIAN_FRONTEND": "noninteractive",
    "TCMALLOC_RELEASE_RATE": "200",
    "DCGM_VERSION": "3.2.6",
    "UCX_MEM_EVENTS": "no",
    "NVIDIA_PRODUCT_NAME": "Triton Server",
    "NVIDIA_BUILD_ID": "94405276",
}
LABELS = {
    "com.nvidia.tritonserver.version": TRITON,
    "com.nvidia.build.id": "94405276",
    "com.nvidia.build.ref": "0000000000000000000000000000000000000000",
    "com.amazonaws.sagemaker.capabilities.accept-bind-to-port": "true",
    "com.amazonaws.sagemaker.capabilities.multi-models": "true",
    "maintainer": "NVIDIA",
}


def build(work: Path, size: int = 300 * MB) -> Standin:
    """Return both images, made under `work` where they are not there yet. size: about so many
    bytes for the full one, unpacked.
    """
    # Another recipe makes other images: what an older one left is not taken for them.
    recipe = hashlib.sha256(
        b"".join(
            p.read_bytes() for p in sorted(HERE.rglob("*")) if p.suffix in (".py", ".sh", ".txt")
        )
    )
    work = work / recipe.hexdigest()[:12]
    parts = Builder(work.parent / "parts")
    full, base = work / f"full-{size // MB}", work / "base-image"
    work.mkdir(parents=True, exist_ok=True)
    marker = full / "standin.json"
    if not marker.exists():
        digests = _write(parts, full, base, size)
        marker.write_text(json.dumps(digests))
    return Standin(full, base, *json.loads(marker.read_text()))


def _write(parts: Builder, full: Path, base: Path, size: int) -> tuple[str, str]:
    for folder in (full, base):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
    bottom = Blobs(full).layer(lambda tar: add_tree(tar, parts.base))
    blob = bottom["descriptor"]["digest"].removeprefix("sha256:")
    os.link(full / "blobs/sha256" / blob, Blobs(base).folder / blob)
    config = {"config": {"Env": [f"PATH={SHELL_PATH}"],
                         "Cmd": ["/bin/bash"],
                         "Labels": {"org.opencontainers.image.version": "22.04"}}}  # fmt: skip
    base_digest = write_image(base, [bottom], config, ["/bin/sh -c #(nop) ADD file:… in / "],
                              "22.04", index=False)  # fmt: skip
    fills: list[tuple[Callable[[tarfile.TarFile], None], str]] = [
        (lambda tar: add_tree(tar, parts.apt), "RUN apt-get update && apt-get install -y …"),
        (lambda tar: add_tree(tar, parts.pip), "RUN pip3 install --upgrade pip wheel setuptools …"),
        (_users(parts), "RUN userdel tensorrt-server … useradd triton-server"),
    ]
    blobs = Blobs(full)
    fixed = [(blobs.layer(fill), text) for fill, text in fills]
    # What is real weighs this much; the rest is shared out as in the official image.
    left = max(size - bottom["bytes"] - sum(f["bytes"] for f, _ in fixed) - 110 * MB, MB)
    layers = [
        (bottom, "ADD rootfs"),
        (blobs.layer(_cuda(parts, left * 30 // 100)), "RUN /nvidia/build-scripts/installCUDA.sh"),
        (blobs.layer(_min(left * 30 // 100)), "RUN /nvidia/build-scripts/installTRT.sh"),
        fixed[0],
        (blobs.layer(_dcgm(parts, left * 8 // 100)), "RUN apt-get install datacenter-gpu-manager"),
        fixed[1],
        fixed[2],
        (blobs.layer(_server(parts, left * 32 // 100)),
         "COPY --chown=1000:1000 build/install tritonserver # buildkit"),
        (blobs.layer(lambda tar: add(tar, "usr/bin/serve", (HERE / "entrypoint/serve").read_bytes(),
                                     mode=0o755)), "COPY docker/sagemaker/serve /usr/bin/."),
    ]  # fmt: skip
    config = {"config": {"Env": [f"{key}={value}" for key, value in ENV.items()], "Labels": LABELS,
                         "Entrypoint": ["/opt/nvidia/nvidia_entrypoint.sh"],
                         "WorkingDir": "/opt/tritonserver"}}  # fmt: skip
    digest = write_image(full, [each for each, _ in layers], config, [text for _, text in layers],
                         f"{RELEASE}-py3", index=True)  # fmt: skip
    return digest, base_digest
