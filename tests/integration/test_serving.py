"""The slim image in a real container, asked by HTTP and gRPC; and the fault that it cures."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import docker
import pytest

from assembler.verify.serving.all_checks import CHECKS
from assembler.verify.serving.check import Check
from assembler.verify.serving.checks_infer import echo_http_json
from assembler.verify.serving.configs import BACKENDS
from assembler.verify.serving.models import write_repository
from assembler.verify.serving.server import Server, serve
from tests.conftest import Hosted


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    write_repository(folder)
    return folder


@pytest.fixture(scope="module")
def server(slim: str, repository: Path) -> Iterator[Server]:
    with serve(slim, repository) as running:
        running.client.models = tuple(BACKENDS)
        yield running


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.name)
def test_answers_are_right(server: Server, check: Check) -> None:
    check.make(server.client)


def test_it_stops_cleanly(slim: str, repository: Path) -> None:
    with serve(slim, repository) as running:
        stopped = running.stop()
    assert stopped.exit_code == 0
    assert stopped.seconds < 10


@pytest.fixture(scope="module")
def full(hosted: Hosted, docker_engine: None) -> str:
    client = docker.from_env()
    client.images.pull(hosted.full)
    client.close()
    return hosted.full


def test_the_full_image_has_the_fault_that_is_cured(full: str, repository: Path) -> None:
    """numpy 2 and a stub built for numpy 1 (python_backend #384): READY, and every answer wrong."""
    only = ("--model-control-mode=explicit", "--load-model=echo")
    with serve(full, repository, only) as running:
        assert running.client.status("health/ready") == 200
        with pytest.raises(AssertionError, match="unpack_from requires a buffer"):
            echo_http_json(running.client)
