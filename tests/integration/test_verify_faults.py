"""`verify` finds each planted fault, under the name of what it is; and none in good images."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from assembler.sources.opening import Access
from assembler.verify.checks import Report
from assembler.verify.run import Plan, verify
from tests.conftest import assembler
from tests.integration.faults import PLATFORM, Layer, Planter, planter
from tests.standin.build import Standin
from tests.unit.building import elf

OPT = "opt/tritonserver"
STUB = f"{OPT}/backends/python/triton_python_backend_stub"
ONNX = f"{OPT}/backends/onnxruntime"
NUMPY = "usr/local/lib/python3.11/dist-packages/numpy"
LIB = "usr/lib/x86_64-linux-gnu"
ENTRY = "opt/nvidia/nvidia_entrypoint.sh"

Config = dict[str, Any]


@pytest.fixture(scope="module")
def layout(standin: Standin, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The slim image as an OCI layout, with its record beside it."""
    folder = tmp_path_factory.mktemp("slim")
    assembler("extract", "--source", f"oci:{standin.full}", "--base", f"oci:{standin.base}",
              "--output", folder / "layout", "--record", folder / "record.json")  # fmt: skip
    return folder / "layout"


@pytest.fixture(scope="module")
def plants(layout: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Planter]:
    with planter(layout, tmp_path_factory.mktemp("spool")) as made:
        yield made


def static(image: str, **more: Any) -> Report:
    plan = Plan(image, PLATFORM, Access(), static_only=True)
    return verify(dataclasses.replace(plan, **more))


def failures(report: Report) -> dict[str, str]:
    return {result.name: result.text for result in report.failed}


def environment(config: Config, name: str, value: str) -> None:
    config["Env"] = [e for e in config["Env"] if not e.startswith(f"{name}=")] + [f"{name}={value}"]


def numpy_2(layer: Layer, config: Config) -> None:
    layer.write(f"{NUMPY}/version.py", '\nversion = "2.2.6"\n__version__ = version\n')


def no_numpy(layer: Layer, config: Config) -> None:
    layer.remove(NUMPY)


def numpy_for_another_python(layer: Layer, config: Config) -> None:
    old = layer.find("/numpy/core/_multiarray_umath.cpython-311-x86_64-linux-gnu.so")
    layer.write(old.replace("cpython-311", "cpython-310"), elf())
    layer.remove(old)


def numpy_in_another_pythons_folder(layer: Layer, config: Config) -> None:
    layer.remove(NUMPY)
    layer.write(f"{NUMPY.replace('3.11', '3.10')}/__init__.py", "")


def library_removed(layer: Layer, config: Config) -> None:
    layer.remove(str(layer.view.tree.resolve(f"{LIB}/libcurl.so.4")))


def library_and_links_removed(layer: Layer, config: Config) -> None:
    for step in layer.view.tree.chain(f"{LIB}/libarchive.so.13"):
        layer.remove(step)


def link_removed(layer: Layer, config: Config) -> None:
    layer.remove(f"{LIB}/libcurl.so.4")


def old_library(layer: Layer, config: Config) -> None:
    real = str(layer.view.tree.resolve(f"{LIB}/libssl.so.3"))
    layer.write(real, elf(soname="libssl.so.3", offers=["OPENSSL_1_1_1"]))


def stub_not_executable(layer: Layer, config: Config) -> None:
    layer.write(STUB, layer.read(STUB), 0o644)


def no_bash(layer: Layer, config: Config) -> None:
    layer.remove("usr/bin/bash")


def no_python3(layer: Layer, config: Config) -> None:
    layer.remove("usr/bin/python3")


def entry_point_that_wanders(layer: Layer, config: Config) -> None:
    text = layer.read(ENTRY).decode()
    layer.write(ENTRY, text.replace('exec "$@"', 'cd /opt/tritonserver\nexec "$@"'), 0o755)


def half_a_provider(layer: Layer, config: Config) -> None:
    needs = elf(needed=["libcublas.so.12", "libc.so.6"])
    layer.write(f"{ONNX}/libonnxruntime_providers_cuda.so", needs)


def provider_without_plugin(layer: Layer, config: Config) -> None:
    layer.write(f"{ONNX}/libonnxruntime_providers_openvino.so", elf(needed=["libc.so.6"]))


def truncated_library(layer: Layer, config: Config) -> None:
    data = layer.read(f"{OPT}/lib/libtritonserver.so")
    layer.write(f"{OPT}/lib/libtritonserver.so", data[: len(data) // 2])


def library_without_its_end(layer: Layer, config: Config) -> None:
    data = layer.read(f"{OPT}/lib/libtritonserver.so")
    layer.write(f"{OPT}/lib/libtritonserver.so", data[:-100])


def no_certificates(layer: Layer, config: Config) -> None:
    layer.remove("etc/ssl/certs/ca-certificates.crt")


def empty_certificates(layer: Layer, config: Config) -> None:
    layer.write("etc/ssl/certs/ca-certificates.crt", "")


def library_path_to_nowhere(layer: Layer, config: Config) -> None:
    environment(config, "LD_LIBRARY_PATH", "/opt/triton/lib")


def library_path_to_another(layer: Layer, config: Config) -> None:
    layer.write("srv/lib/libssl.so.3", elf(soname="libssl.so.3", offers=["OPENSSL_1_1_1"]))
    environment(config, "LD_LIBRARY_PATH", "/srv/lib")


def library_path_lost(layer: Layer, config: Config) -> None:
    real = str(layer.view.tree.resolve(f"{LIB}/libb64.so.0d"))
    layer.write("srv/lib/libb64.so.0d", elf(soname="libb64.so.0d"))
    for step in {f"{LIB}/libb64.so.0d", real}:
        layer.remove(step)


def changed_file(layer: Layer, config: Config) -> None:
    layer.write(f"{OPT}/TRITON_VERSION", "2.46.1\n")


def no_user(layer: Layer, config: Config) -> None:
    lines = layer.read("etc/passwd").decode().splitlines(keepends=True)
    layer.write("etc/passwd", "".join(x for x in lines if not x.startswith("triton-server:")))


def no_server(layer: Layer, config: Config) -> None:
    layer.remove(f"{OPT}/bin/tritonserver")


def path_without_the_server(layer: Layer, config: Config) -> None:
    environment(config, "PATH", "/usr/bin:/bin")


def another_pin(layer: Layer, config: Config) -> None:
    layer.write("etc/pip-constraints.txt", "numpy==1.24.4\n")


def gpu_backends_alone(layer: Layer, config: Config) -> None:
    layer.remove(f"{OPT}/backends")
    layer.write(f"{OPT}/backends/tensorrt/libtriton_tensorrt.so", elf(needed=["libc.so.6"]))


@pytest.mark.parametrize(
    ("name", "fault", "said"),
    [
        ("numpy", numpy_2, "numpy 2.2.6"),
        ("numpy", no_numpy, "no numpy for Python 3.11"),
        ("numpy", numpy_for_another_python, "built for Python 3.10, the stub is for 3.11"),
        ("numpy", numpy_in_another_pythons_folder, "python3.10/dist-packages/numpy is another's"),
        ("closure", library_removed, "needs libcurl.so.4"),
        ("closure", library_and_links_removed, "libtriton_python.so needs libarchive.so.13"),
        ("soname-links", link_removed, "needs libcurl.so.4"),
        ("library-versions", old_library, "OPENSSL_3.0.0 of libssl.so.3"),
        ("stub-executable", stub_not_executable, "mode 0644"),
        ("bash", no_bash, "no bash"),
        ("python3-on-path", no_python3, "no python3 on PATH"),
        ("entrypoint", entry_point_that_wanders, "changes the folder"),
        ("providers", half_a_provider, "needs libcublas.so.12"),
        ("providers", provider_without_plugin, "libopenvino_intel_cpu_plugin.so"),
        ("elf-files", truncated_library, "libtritonserver.so is a damaged ELF file"),
        ("elf-files", library_without_its_end, "it is truncated"),
        ("certificates", no_certificates, "ca-certificates.crt is missing"),
        ("certificates", empty_certificates, "has no certificate"),
        ("ld-library-path", library_path_to_nowhere, "which is no folder"),
        ("ld-library-path", library_path_to_another, "load /srv/lib/libssl.so.3"),
        ("ld-library-path", library_path_lost, "/srv/lib/libb64.so.0d is that"),
        ("users", no_user, "TRITON_SERVER_USER is triton-server"),
        ("server", no_server, "bin/tritonserver is missing"),
        ("server-on-path", path_without_the_server, "not on PATH"),
        ("pins", another_pin, "pinned to 1.24.4, but 1.26.4"),
        ("backends", gpu_backends_alone, "need a GPU"),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_a_planted_fault_is_found(
    plants: Planter, tmp_path: Path, name: str, fault: Callable[..., None], said: str
) -> None:
    image = plants.plant(tmp_path / "image", fault)
    found = failures(static(f"oci:{image}"))
    assert said in found.get(name, ""), found


def test_a_file_that_the_record_does_not_know(
    plants: Planter, layout: Path, tmp_path: Path
) -> None:
    image = plants.plant(tmp_path / "image", changed_file)
    found = failures(static(f"oci:{image}", record=layout.parent / "record.json"))
    assert found == {"record": "/opt/tritonserver/TRITON_VERSION has other bytes than the record "
                     "says"}  # fmt: skip


def test_no_false_alarm_on_the_slim_image(layout: Path) -> None:
    """Its record is found beside it."""
    report = static(f"oci:{layout}")
    assert not failures(report)
    assert {result.name: result.status for result in report.results}["record"] == "ok"


def test_no_false_alarm_on_the_full_image(standin: Standin) -> None:
    """But for numpy 2, which it has."""
    assert set(failures(static(f"oci:{standin.full}"))) == {"numpy"}


def test_what_is_said_on_the_command_line(layout: Path, tmp_path: Path) -> None:
    said = json.loads(assembler("verify", f"oci:{layout}", "--static", "--json",
                                "--junit", tmp_path / "report.xml"))  # fmt: skip
    assert said["holds"] is True
    assert said["image"]["release"] == "24.05"
    assert 'name="closure"' in (tmp_path / "report.xml").read_text()
