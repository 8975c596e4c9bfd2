"""What tests share: a real registry with the stand-in images, a real Engine, the slim image."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.standin.build import Standin, build
from tests.standin.services import engine, push, registry

ROOT = Path(__file__).parent.parent


def pytest_addoption(parser: pytest.Parser) -> None:
    """Words of our own on pytest's command line."""
    parser.addoption(
        "--all-releases",
        action="store_true",
        help="serve every release whose real binaries PyPI has (600 MB to fetch), not just two",
    )


@pytest.fixture(scope="session")
def work() -> Path:
    """A folder that outlives the session: stand-ins are made once."""
    cache = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    folder = Path(cache) / "assembler-tests"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def standin(work: Path) -> Standin:
    """The full stand-in and its base, as OCI layouts."""
    return build(work / "standin")


@pytest.fixture(scope="session")
def docker_engine(work: Path) -> Iterator[None]:
    """A Docker Engine that answers."""
    with engine(work / "engine"):
        yield


@dataclass(frozen=True)
class Hosted:
    """The stand-ins in a real registry. mirrors: words that make it the official ones."""

    host: str
    full: str
    base: str

    @property
    def mirrors(self) -> list[str]:
        return ["--mirror", f"nvcr.io={self.host}", "--mirror", f"docker.io={self.host}"]


@pytest.fixture(scope="session")
def hosted(standin: Standin, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hosted]:
    """A docker-registry that holds both images under their official names."""
    with registry(tmp_path_factory.mktemp("registry")) as host:
        found = Hosted(
            host, f"{host}/nvidia/tritonserver:{standin.tag}", f"{host}/library/ubuntu:22.04"
        )
        push(standin.full, standin.tag, found.full)
        push(standin.base, "22.04", found.base)
        yield found


def assembler(*words: str | Path, env: dict[str, str] | None = None, **given: object) -> str:
    """Run the command line as a user does; return its standard output, assert its success."""
    done = run(*words, env=env, **given)
    assert done.returncode == 0, done.stderr
    return done.stdout


def run(
    *words: str | Path, env: dict[str, str] | None = None, **given: object
) -> subprocess.CompletedProcess[str]:
    """Run the command line as a user does, in a process of its own."""
    return subprocess.run(  # type: ignore[call-overload,no-any-return]
        [sys.executable, "-m", "assembler", *map(str, words)],
        capture_output=True,
        text=True,
        env={**os.environ, **(env or {})},
        timeout=600,
        check=False,
        **{"cwd": ROOT, **given},
    )


@pytest.fixture(scope="session")
def slim(hosted: Hosted, docker_engine: None) -> str:
    """The slim image of 24.05 in the Engine, as `extract` makes it with no more words."""
    assembler("extract", "24.05", *hosted.mirrors)
    return "tritonserver:24.05-onnxruntime-python-cpu"
