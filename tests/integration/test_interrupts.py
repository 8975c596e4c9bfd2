"""Ctrl-C and SIGTERM at any moment: the right status, one line, nothing left."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.integration import small
from tests.unit import fake_registry
from tests.unit.fake_registry import FakeRegistry

LINE = "assembler: interrupted; nothing half made is left"
SIGNALS = {signal.SIGINT: 130, signal.SIGTERM: 143}
# Before Python has come to our first line, no program can answer.
COMMAND = """
import sys, assembler.__main__ as m
print("up", flush=True)
m.main()
"""


class Place:
    """Images to read, and a folder for each thing that may be left behind."""

    def __init__(self, folder: Path) -> None:
        self.temporary, self.out, self.cache = folder / "tmp", folder / "out", folder / "cache"
        for each in (self.temporary, self.out):
            each.mkdir()
        small.wheel(self.cache / "wheels")
        self.source = f"oci:{small.full(folder / 'full')}"
        self.base = f"oci:{small.base(folder / 'base')}"

    def start(self, *words: str) -> subprocess.Popen[str]:
        """Start a run."""
        command = [
            sys.executable, "-c", COMMAND, "extract", "24.05", "--cache-dir", str(self.cache),
            "--source", self.source, "--base", self.base, *words,
        ]  # fmt: skip
        env = os.environ | {"TMPDIR": str(self.temporary)}
        process = subprocess.Popen(
            command, env=env, cwd=ROOT, text=True, stderr=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert process.stdout and process.stdout.readline() == "up\n"
        return process

    def check_stopped(self, process: subprocess.Popen[str], signum: signal.Signals) -> bool:
        """Assert that a run stopped as it should; False where it had come to its end before."""
        said = process.communicate(timeout=60)[1]
        assert list(self.temporary.iterdir()) == []
        assert list(self.cache.rglob(".*")) == []
        assert list((self.cache / "tmp").glob("*")) == []
        if process.returncode == 0:
            return False
        told = [s for s in said.splitlines() if not s.startswith(("reading ", "nothing has"))]
        assert told == [LINE]
        assert process.returncode == SIGNALS[signum]
        return True


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """A place of one's own."""
    return Place(tmp_path)


@pytest.mark.parametrize("signum", SIGNALS, ids=lambda each: each.name)
@pytest.mark.parametrize("output", ["slim.tar", "slim"])
def test_any_moment(place: Place, signum: signal.Signals, output: str) -> None:
    stopped = 0
    for number in range(8):
        how = ["--read-all"] if number % 2 else []  # else the cache knows all
        process = place.start("--output", str(place.out / f"{number}-{output}"), *how)
        time.sleep(0.005 + random.random() * 0.4)
        process.send_signal(signum)
        if place.check_stopped(process, signum):
            stopped += 1
            assert not list(place.out.glob(f"*{number}-{output}*"))
    assert stopped


@pytest.fixture
def registry() -> Iterator[FakeRegistry]:
    """A registry with the full image."""
    made = FakeRegistry()
    made.add("triton:1", [small.layer(small.full_files())], **small.CONFIG)
    yield made
    made.close()


@pytest.mark.parametrize("signum", SIGNALS, ids=lambda each: each.name)
@pytest.mark.parametrize(("path", "after"), [("manifests", 0), ("blobs", 0), ("blobs", 1)])
def test_while_a_registry_is_silent(
    place: Place, registry: FakeRegistry, path: str, after: int, signum: signal.Signals
) -> None:
    asked = threading.Event()

    def silent(request: object, reply: fake_registry.Reply) -> fake_registry.Reply:
        asked.set()
        return fake_registry.silent(8.0)(request, reply)  # type: ignore[arg-type]

    registry.fault(path, silent, after=after)
    place.source = f"{registry.host}/triton:1"
    process = place.start("--output", str(place.out / "slim.tar"))
    assert asked.wait(30)
    time.sleep(0.2)
    began = time.monotonic()
    process.send_signal(signum)
    process.send_signal(signum)  # an impatient user
    assert place.check_stopped(process, signum)
    assert time.monotonic() - began < 5
    assert list(place.out.iterdir()) == []


@pytest.mark.parametrize("signum", SIGNALS, ids=lambda each: each.name)
def test_while_spans_are_silent(
    place: Place, registry: FakeRegistry, tmp_path: Path, signum: signal.Signals
) -> None:
    place.source, index = f"{registry.host}/triton:1", tmp_path / "index"
    other = tmp_path / "other"
    small.wheel(other / "wheels")
    words = ["--source", place.source, "--base", place.base, "--cache-dir", str(other)]
    words += ["-o", str(index)]
    command = [sys.executable, "-m", "assembler", "index", "24.05", *words]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    asked = threading.Event()

    def silent(request: fake_registry.Request, reply: fake_registry.Reply) -> fake_registry.Reply:
        if "range" not in request.headers:
            return reply
        asked.set()
        return fake_registry.silent(20.0)(request, reply)

    registry.fault("blobs", silent, times=99)
    process = place.start("--output", str(place.out / "slim.tar"), "--index-from", str(index))
    assert asked.wait(30)
    time.sleep(0.2)
    began = time.monotonic()
    process.send_signal(signum)
    assert place.check_stopped(process, signum)
    assert time.monotonic() - began < 5
    assert list(place.out.iterdir()) == []


def _engine_state() -> str:
    words = ["docker", "images", "--all", "--no-trunc", "--format", "{{.ID}} {{.Repository}}"]
    lines = subprocess.run(words, capture_output=True, text=True, check=True).stdout.splitlines()
    # Other tests may use this Engine at the same time.
    return "\n".join(sorted(each for each in lines if "interrupted" in each or "<none>" in each))


@pytest.mark.usefixtures("docker_engine")
def test_into_the_engine(place: Place) -> None:
    tag = f"interrupted-{os.getpid()}:1"
    assert not place.check_stopped(place.start("--tag", tag), signal.SIGINT)
    words = ["docker", "image", "inspect", "--format", "{{.Id}}", tag]
    try:
        before = subprocess.run(words, capture_output=True, text=True, check=True).stdout
        state = _engine_state()
        for number in range(10):
            signum = (signal.SIGINT, signal.SIGTERM)[number % 2]
            changed = {"opt/tritonserver/TRITON_VERSION": f"2.46.{number}\n"}
            place.source = f"oci:{small.full(place.out / f'{number}-changed', changed)}"
            process = place.start("--tag", tag)
            time.sleep(0.2 + number * 0.03)
            process.send_signal(signum)
            if not place.check_stopped(process, signum):
                break
            now = subprocess.run(words, capture_output=True, text=True, check=True).stdout
            assert now == before
            assert _engine_state() == state
    finally:
        subprocess.run(["docker", "image", "rm", "--force", tag], capture_output=True, check=True)
