"""Releases as NVIDIA built them: extracted by the command line, started, asked.

An old and the newest one; all that PyPI has with `--all-releases`.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest

from assembler import patches, releases, resources
from assembler.rootfs import RootFS
from assembler.verify.serving.all_checks import CHECKS
from assembler.verify.serving.models import write_repository
from assembler.verify.serving.server import serve
from assembler.view import View
from tests.conftest import assembler, run
from tests.releases import python38, real
from tests.standin.build import Standin
from tests.unit.building import MemorySource, reg, tar

FEW = ("22.12", "24.10")
UTILS = "backends/python/triton_python_backend_utils.py"


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    every = metafunc.config.getoption("--all-releases")
    metafunc.parametrize("release", real.WHEELS if every else FEW, scope="module")


@pytest.fixture(scope="module")
def image(
    release: str,
    work: Path,
    standin: Standin,
    docker_engine: None,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[str, int]]:
    """The slim image's name, and how many bytes it adds to the base."""
    full = real.build(work, standin, release, tmp_path_factory.mktemp("full"))
    tag = f"releases-test:{release}"
    words = ["--source", f"oci:{full}", "--base", f"oci:{standin.base}", "--tag", tag, "--json"]
    if release in real.WITHOUT_ONNX:
        words += ["--backend", "python"]
    found = json.loads(assembler("extract", release, *words))
    yield tag, sum(stage["size"] for stage in found["stages"])
    client = docker.from_env()
    client.images.remove(tag, force=True)
    client.close()


def test_it_serves(release: str, image: tuple[str, int], tmp_path: Path) -> None:
    tag, size = image
    write_repository(tmp_path)
    with serve(tag, tmp_path, ["--model-control-mode=explicit"]) as server:
        wanted = ("health", "server-metadata", "trace-settings", "log-settings")
        for check in (each for each in CHECKS if each.name in wanted):
            check.make(server.client)
        # Of the binary itself; for some wheels it is not the release's.
        version = real.VERSIONS.get(release, releases.table()[release].triton)
        assert server.client.get("")["version"] == version
        assert "nv_cpu_utilization" in server.client.metrics()
        assert server.stop().exit_code == 0
    asked = "the server alone: its stub wants a Python that is not to be had"
    if release not in real.ONLY_PYTHON_38 or python38.prefix():
        done = run("verify", tag, "--json")
        report = json.loads(done.stdout)
        failed = [each for each in report["checks"] if each["status"] == "failed"]
        assert not failed and done.returncode == 0, done.stderr
        asked = f"{sum(each['status'] == 'ok' for each in report['checks'])} checks passed"
    known = releases.table()[release].size * 1_000_000
    if release not in real.WITHOUT_ONNX:
        assert abs(size - known) < known / 10, "the size that `assembler releases` names"
    print(f"{release}: {asked}; {size / 1e6:.1f} MB above the base")


def test_the_numpy_guard_fits(release: str, work: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(real.wheel(work, release)) as wheel:
        text = wheel.read(f"pytriton/tritonserver/{UTILS}").decode()
    for name in ("full", "base"):
        (tmp_path / name).mkdir()
    source = MemorySource(tar(reg(f"opt/tritonserver/{UTILS}", text)))
    full = View.of(source, tmp_path / "full", lambda _: True)
    made = RootFS(View.of(MemorySource(tar()), tmp_path / "base", lambda _: True), full, tmp_path)
    made.take(f"opt/tritonserver/{UTILS}", "s", "wanted")
    assert len(patches.apply(made, patches.load(resources.path("patches")), release)) == 1
