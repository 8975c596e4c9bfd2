"""`--offline`: not one socket to anywhere; and numpy from wherever pip's own settings say."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.integration import small
from tests.unit.fake_registry import FakeRegistry

# Every Python that is started, pip's included, notes whom it would speak to.
WATCH = """
import os, sys
def watch(event, given):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.sendto", "socket.gethostbyname"):
        with open(os.environ["WATCHED"], "a") as file:
            print(event, given[-1], file=file)
sys.addaudithook(watch)
"""


class Place:
    """Where a test runs. sockets: whom anybody spoke to."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.env = {name: value for name, value in os.environ.items() if name[:4] != "PIP_"}
        (folder / "watch").mkdir()
        (folder / "watch" / "sitecustomize.py").write_text(WATCH)
        self.env |= {
            "PYTHONPATH": f"{folder / 'watch'}",
            "WATCHED": f"{folder / 'watched'}",
            "PIP_CONFIG_FILE": f"{folder / 'pip.conf'}",
            "HOME": f"{folder}",
        }

    def pip(self, text: str) -> None:
        """Write pip's settings."""
        (self.folder / "pip.conf").write_text(f"[global]\n{text}\n")

    def links(self) -> Path:
        """A folder with numpy 1.26.4 in it."""
        small.wheel(self.folder / "links")
        return self.folder / "links"

    @property
    def sockets(self) -> list[str]:
        watched = self.folder / "watched"
        return watched.read_text().splitlines() if watched.exists() else []

    def extract(self, *words: str) -> subprocess.CompletedProcess[str]:
        out = self.folder / "out.tar"
        out.unlink(missing_ok=True)
        return subprocess.run(
            [sys.executable, "-m", "assembler", "extract", "24.05", "--json", "-q", "--cache-dir",
             str(self.folder / "cache"), "--output", str(out), *words],
            env=self.env, cwd=ROOT, capture_output=True, text=True, check=False, timeout=100,
        )  # fmt: skip

    def digest(self, *words: str) -> str:
        done = self.extract(*words)
        assert done.returncode == 0, done.stderr
        digest: str = json.loads(done.stdout)["image"]["digest"]
        return digest


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


@pytest.fixture
def local(place: Place) -> list[str]:
    """Words for a full image and a base on disk."""
    full, base = small.full(place.folder / "full"), small.base(place.folder / "base")
    return ["--source", f"oci:{full}", "--base", f"oci:{base}"]


@pytest.fixture
def origin() -> Iterator[FakeRegistry]:
    made = FakeRegistry()
    made.add("library/ubuntu:22.04", [small.layer(small.base_files())], **small.CONFIG)
    made.add("nvidia/tritonserver:24.05-py3", [small.layer(small.full_files())], **small.CONFIG)
    yield made
    made.close()


def closed() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


# -- offline ---------------------------------------------------------------------------------


def test_all_that_is_missing_is_listed_at_once(place: Place) -> None:
    done = place.extract("--offline")
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        "assembler: --offline, and not at hand:",
        "  docker.io/library/ubuntu:22.04: name a local one with --base (docker-daemon:NAME, "
        "docker-archive:FILE, oci:DIR)",
        "  numpy for its Python: put the wheel into a folder that pip's find-links names",
        "  nvcr.io/nvidia/tritonserver:24.05-py3: name a local one with --source "
        "(docker-daemon:NAME, docker-archive:FILE, oci:DIR)",
    ]
    assert place.sockets == []


def test_files_that_are_not_there_count_too(place: Place) -> None:
    place.pip(f"find-links = {place.links()}")
    done = place.extract("--offline", "--source", "oci:/no/full", "--base", "oci:/no/base")
    assert done.stderr.splitlines() == [
        "assembler: --offline, and not at hand:",
        "  oci:/no/base: there is no such file",
        "  oci:/no/full: there is no such file",
    ]


def test_what_the_engine_lacks_counts_too(place: Place) -> None:
    place.env["DOCKER_HOST"] = f"unix://{place.folder}/nobody"
    place.pip(f"find-links = {place.links()}")
    done = place.extract("--offline", "--source", "oci:/no/full", "--base", "docker-daemon:no:1")
    assert done.returncode == 1
    head, engine, file = done.stderr.splitlines()
    assert head == "assembler: --offline, and not at hand:"
    assert engine.startswith("  docker-daemon:no:1: ")
    assert file == "  oci:/no/full: there is no such file"


def test_with_everything_at_hand_no_socket_is_opened(place: Place, local: list[str]) -> None:
    place.pip(
        f"find-links = {place.links()}\n    http://{closed()}/links\n"
        f"index-url = http://{closed()}/simple\nextra-index-url = http://{closed()}/simple"
    )
    place.digest("--offline", *local)
    assert place.sockets == []


def test_what_was_read_once_is_at_hand(place: Place, origin: FakeRegistry) -> None:
    place.pip(f"no-index = true\nfind-links = {place.links()}")
    mirrors = [
        word
        for registry in ("nvcr.io", "docker.io")
        for word in ("--mirror", f"{registry}={origin.host}")
    ]
    online = place.digest(*mirrors)
    assert place.sockets, "the watch works"
    (place.folder / "watched").unlink()
    assert place.digest(*mirrors, "--offline") == online
    shutil.rmtree(place.folder / "cache" / "results")
    assert place.digest(*mirrors, "--offline") == online
    assert place.sockets == []


def test_a_wheel_that_is_missing_alone(place: Place, local: list[str]) -> None:
    place.pip(f"find-links = http://{closed()}/links")
    done = place.extract("--offline", *local)
    assert done.returncode == 1
    assert "numpy 1.26.4" in done.stderr
    assert "--offline forbids to fetch it" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert place.sockets == []


# -- numpy by pip's own settings -------------------------------------------------------------


def test_find_links_and_no_index(place: Place, local: list[str]) -> None:
    place.pip(f"no-index = true\nfind-links = {place.links()}")
    place.digest(*local)
    assert place.sockets == []


def test_an_index_of_ones_own(place: Place, local: list[str]) -> None:
    """A folder as PEP 503 has it, with the hash that pip then checks."""
    wheel = next(place.links().glob("*.whl"))
    folder = place.folder / "index" / "numpy"
    folder.mkdir(parents=True)
    (folder / wheel.name).write_bytes(wheel.read_bytes())
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    page = f'<a href="{wheel.name}#sha256={digest}">{wheel.name}</a>'
    (folder / "index.html").write_text(f"<!DOCTYPE html><html><body>{page}</body></html>")
    place.pip(f"index-url = file://{folder.parent}")
    place.digest(*local)
    assert place.sockets == []


def test_an_index_whose_wheel_is_not_what_it_says(place: Place, local: list[str]) -> None:
    wheel = next(place.links().glob("*.whl"))
    folder = place.folder / "index" / "numpy"
    folder.mkdir(parents=True)
    (folder / wheel.name).write_bytes(wheel.read_bytes())
    page = f'<a href="{wheel.name}#sha256={"0" * 64}">{wheel.name}</a>'
    (folder / "index.html").write_text(f"<!DOCTYPE html><html><body>{page}</body></html>")
    place.pip(f"index-url = file://{folder.parent}")
    done = place.extract(*local)
    assert done.returncode == 1
    assert "pip cannot fetch numpy 1.26.4" in done.stderr
    assert len(done.stderr.splitlines()) == 1
