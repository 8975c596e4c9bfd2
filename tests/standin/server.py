"""The layer of /opt/tritonserver: NVIDIA's server and python backend, and ballast beside them.

What lies where: triton-releases of 24.05, onnxruntime_backend:r24.05:tools/gen_ort_dockerfile.py.
"""

from __future__ import annotations

import tarfile
from pathlib import Path

from tests.standin import ballast, tars
from tests.standin.settings import TRITON
from tests.standin.wheels import ONNXRUNTIME, PYTHON, Wheels

HERE = Path(__file__).parent
TOP = "opt/tritonserver"
OWNER = (1000, 1000)
_FILE, _PROGRAM, _FOLDER = 0o644, 0o755, 0o755
_OPENVINO = "2023.3.0"
# Ballast: parts of a thousand of the layer's, by path below backends.
_HEAVY = {
    "onnxruntime/libonnxruntime_providers_cuda.so": 180,
    "onnxruntime/libonnxruntime_providers_tensorrt.so": 2,
    "onnxruntime/libonnxruntime_providers_openvino.so": 2,
    f"onnxruntime/libopenvino.so.{_OPENVINO}": 10,
    f"onnxruntime/libopenvino_c.so.{_OPENVINO}": 1,
    f"onnxruntime/libopenvino_ir_frontend.so.{_OPENVINO}": 1,
    f"onnxruntime/libopenvino_onnx_frontend.so.{_OPENVINO}": 3,
    "onnxruntime/libopenvino_intel_cpu_plugin.so": 30,
    "onnxruntime/libtbb.so.12": 1,
    "tensorrt/libtriton_tensorrt.so": 1,
    "pytorch/libtriton_pytorch.so": 2,
    "pytorch/libtorch_cuda.so": 300,
    "pytorch/libtorch_cpu.so": 100,
    "openvino/libtriton_openvino.so": 1,
    f"openvino/libopenvino.so.{_OPENVINO}": 20,
    "fil/libtriton_fil.so": 60,
    "dali/libtriton_dali.so": 2,
    "dali/wheel/dali/nvidia/dali/libdali_kernels.so": 100,
    "tensorflow/libtriton_tensorflow.so": 2,
    "tensorflow/libtensorflow_cc.so.2": 160,
    "identity/libtriton_identity.so": 1,
    "repeat/libtriton_repeat.so": 1,
    "square/libtriton_square.so": 1,
}
_TOOLS = {"onnxruntime/onnxruntime_perf_test": 5, "onnxruntime/onnx_test_runner": 4}


class Writer:
    """Puts files below TOP, with the folders that they need, owned as upstream's COPY has it."""

    def __init__(self, tar: tarfile.TarFile) -> None:
        self._tar, self._folders = tar, {TOP}
        tars.add_folder(tar, "opt")
        tars.add_folder(tar, TOP, mode=_FOLDER, owner=OWNER)

    def _at(self, name: str) -> str:
        path = f"{TOP}/{name}"
        for folder in reversed(Path(path).parents):
            if f"{folder}/".startswith(f"{TOP}/") and str(folder) not in self._folders:
                self._folders.add(str(folder))
                tars.add_folder(self._tar, str(folder), mode=_FOLDER, owner=OWNER)
        return path

    def put(self, name: str, data: bytes | Path, mode: int = _FILE) -> None:
        content = data if isinstance(data, bytes) else data.read_bytes()
        tars.add(self._tar, self._at(name), content, mode=mode, owner=OWNER)

    def link(self, name: str, target: str) -> None:
        tars.add_link(self._tar, self._at(name), target, owner=OWNER)

    def heavy(self, name: str, size: int, mode: int = _FILE) -> None:
        ballast.add(self._tar, self._at(name), size, mode=mode, owner=OWNER)


def fill(tar: tarfile.TarFile, wheels: Wheels, weight: int) -> None:
    """Add the layer, with about `weight` bytes of ballast."""
    writer = Writer(tar)
    put_server(writer, wheels.triton, TRITON)
    put_python(writer, wheels.triton, wheels.triton / "python_backend_stubs" / PYTHON)
    put_onnxruntime(writer, wheels)
    heavy = {f"backends/{path}": part for path, part in _HEAVY.items()}
    heavy |= {"third-party-src/src.tar.gz": 10}
    tools = {f"backends/{path}": part for path, part in _TOOLS.items()}
    whole = sum(heavy.values()) + sum(tools.values())
    for path, part in (heavy | tools).items():
        size = max(weight * part // whole, 1000)
        writer.heavy(path, size, _PROGRAM if path in tools else _FILE)


def put_server(writer: Writer, files: Path, triton: str) -> None:
    """Add server, libraries and licences; files: as `Wheels.triton` has them."""
    writer.put("bin/tritonserver", files / "bin/tritonserver", _PROGRAM)
    writer.put("lib/libtritonserver.so", files / "lib/libtritonserver.so")
    for header in ("tritonserver", "tritonbackend", "tritoncache", "tritonrepoagent"):
        writer.put(f"include/triton/core/{header}.h", f"// {header}\n".encode())
    writer.put("LICENSE", b"BSD-3-Clause, NVIDIA (stand-in for the text)\n")
    writer.put("TRITON_VERSION", f"{triton}\n".encode())
    local = "caches/local/libtritoncache_local.so"
    if (files / local).exists():  # from 23.03 on
        writer.put(local, files / local)
        writer.heavy("caches/redis/libtritoncache_redis.so", 100_000)
    writer.heavy("repoagents/checksum/libtritonrepoagent_checksum.so", 100_000)
    writer.put("third-party-src/README", b"Sources of third parties (stand-in)\n")
    writer.heavy(f"python/tritonserver-{triton}-cp310-cp310-linux_x86_64.whl", 100_000)


def put_python(writer: Writer, files: Path, stub: Path) -> None:
    """Add the python backend; stub: the folder of the one to use."""
    here = "backends/python"
    for name in ("libtriton_python.so", "triton_python_backend_utils.py"):
        writer.put(f"{here}/{name}", files / here / name)
    name = "triton_python_backend_stub"
    writer.put(f"{here}/{name}", stub / name, _PROGRAM)


def put_onnxruntime(writer: Writer, wheels: Wheels) -> None:
    """Add a model.py and no libtriton_onnxruntime.so, which nobody but the official image has."""
    here, package = "backends/onnxruntime", wheels.onnxruntime
    writer.put(f"{here}/model.py", HERE / "onnxruntime_model.py")
    for path in sorted(package.rglob("*")):
        if path.is_file():
            writer.put(f"{here}/packages/onnxruntime/{path.relative_to(package)}", path)
    writer.put(f"{here}/libonnxruntime.so", wheels.onnxruntime_library)
    writer.link(f"{here}/libonnxruntime.so.{ONNXRUNTIME}", "libonnxruntime.so")
    shared = "libonnxruntime_providers_shared.so"
    writer.put(f"{here}/{shared}", package / "capi" / shared)
    writer.put(f"{here}/LICENSE", package / "LICENSE")
    writer.put(f"{here}/LICENSE.openvino/LICENSE", b"Apache-2.0 (stand-in for the text)\n")
    writer.put(f"{here}/ort_onnx_version.txt", b"1.16.0\n")
    for name in ("libopenvino.so", "libopenvino_c.so", "libopenvino_ir_frontend.so",
                 "libopenvino_onnx_frontend.so"):  # fmt: skip
        writer.link(f"{here}/{name}.2330", f"{name}.{_OPENVINO}")
        writer.link(f"{here}/{name}", f"{name}.{_OPENVINO}")
