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
from assembler.view import View
from tests.conftest import assembler
from tests.releases import real
from tests.serving.client import CHECKS
from tests.serving.models import write_repository
from tests.serving.server import serve
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


def checks(release: str) -> list[str]:
    """Return which of the serving checks a release's stand-in can be put to."""
    if release in real.WITHOUT_PYTHON:
        return ["live and ready", "server metadata", "trace settings", "logging settings"]
    if release in real.WITHOUT_ONNX:
        return [*checks("22.12"), *(n for n, _ in CHECKS if "echo" in n)]
    return [name for name, _ in CHECKS]


def test_it_serves(release: str, image: tuple[str, int], tmp_path: Path) -> None:
    tag, size = image
    write_repository(tmp_path)
    words = ["--model-control-mode=explicit"]
    if release not in real.WITHOUT_PYTHON:
        words.append(f"--load-model={'echo' if release in real.WITHOUT_ONNX else '*'}")
    with serve(tag, tmp_path, words) as server:
        version = real.VERSIONS.get(release, releases.table()[release].triton)
        assert server.client.get("")["version"] == version
        wanted = checks(release)
        for name in wanted:
            dict(CHECKS)[name](server.client)
        assert "nv_cpu_utilization" in server.client.metrics()
        assert server.stop().exit_code == 0
    known = releases.table()[release].size * 1_000_000
    if release not in real.WITHOUT_ONNX:
        assert abs(size - known) < known / 10, "the size that `assembler releases` names"
    print(f"{release}: {len(wanted)} checks, {size / 1e6:.1f} MB above the base")


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
