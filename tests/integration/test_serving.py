"""The slim image in a real container, asked by HTTP and gRPC; and the fault that it cures."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import docker
import pytest

from tests.serving.client import CHECKS, Client
from tests.serving.models import write_repository
from tests.serving.server import Server, serve
from tests.standin.build import Standin


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    write_repository(folder)
    return folder


@pytest.fixture(scope="module")
def server(slim: str, repository: Path) -> Iterator[Server]:
    with serve(slim, repository) as running:
        yield running


@pytest.mark.parametrize("name", [name for name, _ in CHECKS])
def test_answers_are_right(server: Server, name: str) -> None:
    dict(CHECKS)[name](server.client)


def test_it_stops_cleanly(slim: str, repository: Path) -> None:
    with serve(slim, repository) as running:
        code, seconds = running.stop()
    assert code == 0
    assert seconds < 10


@pytest.fixture(scope="module")
def full(standin: Standin, hosted: object, docker_engine: None) -> str:
    client = docker.from_env()
    name = hosted.full  # type: ignore[attr-defined]
    client.images.pull(name)
    client.close()
    return str(name)


def test_the_full_image_has_the_fault_that_is_cured(full: str, repository: Path) -> None:
    """numpy 2 and a stub built for numpy 1 (python_backend #384): READY, and every answer wrong."""
    with serve(full, repository) as running:
        client: Client = running.client
        answer = client.post(
            "/v2/models/echo/infer",
            {"inputs": [
                {"name": "TEXT", "shape": [1], "datatype": "BYTES", "data": ["hello"]},
                {"name": "NUMBERS", "shape": [3], "datatype": "FP32", "data": [1.0, 2.0, 3.0]},
            ]},
        )  # fmt: skip
    assert answer.status_code == 500
    assert "unpack_from requires a buffer" in answer.text
