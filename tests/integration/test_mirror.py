"""`assembler mirror`: from one registry to another, stopped and gone on with, and found there."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from assembler import oci
from tests.conftest import ROOT, run
from tests.integration import small
from tests.standin.services import registry
from tests.unit import tiny
from tests.unit.fake_registry import FakeRegistry, Reply, Request, changed, error

FULL, BASE = "nvidia/tritonserver:24.05-py3", "library/ubuntu:22.04"
LAYERS = 6
NOISE = random.Random(1).randbytes(300_000)


@pytest.fixture
def origin() -> Iterator[FakeRegistry]:
    """What is nvcr.io and Docker Hub here; the full image begins with the base's layer."""
    made = FakeRegistry()
    base = small.layer(small.base_files())
    more = [tiny.tar({f"noise{n}": NOISE + b"%d" % n}) for n in range(LAYERS)]
    made.add(BASE, [base], **small.CONFIG)
    made.add(FULL, [base, small.layer(small.full_files()), *more], **small.CONFIG)
    yield made
    made.close()


@pytest.fixture
def target(tmp_path: Path) -> Iterator[str]:
    with registry(tmp_path / "registry") as host:
        yield host


def words(origin: FakeRegistry, to: str) -> list[str]:
    names = ["--mirror", f"nvcr.io={origin.host}", "--mirror", f"docker.io={origin.host}"]
    return ["mirror", "24.05", "--to", to, *names]


def copied(origin: FakeRegistry, to: str, *more: str) -> dict[str, Any]:
    done = run(*words(origin, to), "--json", *more)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def manifest(to: str, name: str) -> bytes:
    """The manifest under a name of the mirror, as its registry gives it."""
    host, _, prefix = to.partition("/")
    repository, _, reference = name.rpartition("@" if "@" in name else ":")
    path = "/".join(part for part in (prefix, repository) if part)
    kinds = ", ".join((*oci.MANIFEST_TYPES, *oci.INDEX_TYPES))
    request = urllib.request.Request(
        f"http://{host}/v2/{path}/manifests/{reference}", headers={"Accept": kinds}
    )
    with urllib.request.urlopen(request) as answer:
        raw: bytes = answer.read()
    return raw


def check(origin: FakeRegistry, to: str) -> None:
    """Both images are there, byte for byte, and skopeo can read every blob."""
    for name in (FULL, BASE):
        assert manifest(to, name) == origin.manifests[name][1]


def blobs_read(origin: FakeRegistry) -> list[str]:
    return [each.path.rpartition("/")[2] for each in origin.seen("/blobs/")]


def test_full_and_base_are_there_with_their_digests(
    origin: FakeRegistry, target: str, tmp_path: Path
) -> None:
    to = f"{target}/ngc"
    found = copied(origin, to)
    check(origin, to)
    assert [each["digest"] for each in found["images"]] == [
        oci.sha256(origin.manifests[name][1]) for name in (BASE, FULL)
    ]
    assert found["images"][1]["blobs"]["mounted"] == 1, "the base's layer is not sent twice"
    assert found["images"][0]["blobs"] == {"there": 0, "mounted": 0, "sent": 2}
    subprocess.run(
        ["skopeo", "copy", "--quiet", "--src-tls-verify=false", f"docker://{to}/{FULL}",
         f"dir:{tmp_path / 'copy'}"],
        check=True,
    )  # fmt: skip
    # And extract reads from there, without asking anybody else.
    origin.requests.clear()
    small.wheel(tmp_path / "cache" / "wheels")
    mirrors = ["--mirror", f"nvcr.io={to}", "--mirror", f"docker.io={to}"]
    done = run("extract", "24.05", *mirrors, "--cache-dir", tmp_path / "cache",
               "--output", tmp_path / "out.tar")  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert origin.requests == []


def test_a_second_run_finds_all_there(origin: FakeRegistry, target: str) -> None:
    copied(origin, f"{target}/ngc")
    origin.requests.clear()
    found = copied(origin, f"{target}/ngc")
    assert found["seconds"] < 2
    assert [each["bytes_sent"] for each in found["images"]] == [0, 0]
    layers = {layer.digest for name in (FULL, BASE) for layer in _layers(origin, name)}
    assert not layers & set(blobs_read(origin)), "only the configs are read, for their platform"


def _layers(origin: FakeRegistry, name: str) -> tuple[oci.Descriptor, ...]:
    return oci.Manifest.parse(origin.manifests[name][1], name).layers


def kill_at(origin: FakeRegistry, to: str, point: int, delay: float) -> bool:
    """Begin a mirror and kill it, with no chance to clean up, at its nth request for a blob.

    delay: seconds after the answer to that, when the kill comes. Returns whether it came to it.
    """
    process: list[subprocess.Popen[str]] = []

    def kill() -> None:
        process[0].send_signal(signal.SIGKILL)

    def change(_: Request, reply: Reply) -> Reply:
        while not process:
            pass
        if delay:
            threading.Timer(delay, kill).start()
            return reply
        kill()
        return Reply(reply.status, reply.headers, reply.body, cut=len(reply.body) // 2)

    origin.fault("/blobs/", change, after=point)
    process.append(
        subprocess.Popen(
            [sys.executable, "-m", "assembler", *words(origin, to)], cwd=ROOT, text=True,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )
    )  # fmt: skip
    process[0].wait(60)
    origin.faults.clear()
    return process[0].returncode == -signal.SIGKILL


def there(folder: Path, prefix: str) -> set[str]:
    """The blobs that the registry has under a prefix, by its own disk."""
    # Not by `**`: what the registry makes of broken uploads comes and goes meanwhile.
    links = folder.glob(f"data/docker/registry/v2/repositories/{prefix}/*/*/_layers/sha256/*/link")
    return {f"sha256:{link.parent.name}" for link in links}


def test_killed_at_any_point_it_is_gone_on_with(
    origin: FakeRegistry, target: str, tmp_path: Path
) -> None:
    configs = {
        oci.Manifest.parse(origin.manifests[name][1], name).config.digest for name in (FULL, BASE)
    }
    half_done = 0
    for number, (point, delay) in enumerate([(n, d) for n in range(1, 11) for d in (0.0, 0.01)]):
        prefix = f"at{number}"
        to = f"{target}/{prefix}"
        assert kill_at(origin, to, point, delay) or point > 8
        finished = there(tmp_path / "registry", prefix)
        half_done += bool(finished)
        origin.requests.clear()
        found = copied(origin, to)
        assert not finished & set(blobs_read(origin)) - configs, f"killed at {point}, {delay}"
        assert found["images"][1]["digest"] == oci.sha256(origin.manifests[FULL][1])
        check(origin, to)
    assert half_done >= 9, "it was killed in the middle"


def test_ctrl_c_ends_it_at_once_and_politely(origin: FakeRegistry, target: str) -> None:
    process: list[subprocess.Popen[str]] = []

    def interrupt(_: Request, reply: Reply) -> Reply:
        while not process:
            pass
        process[0].send_signal(signal.SIGINT)
        return Reply(reply.status, reply.headers, reply.body, pause=20)

    origin.fault("/blobs/", interrupt, after=4)
    process.append(
        subprocess.Popen(
            [sys.executable, "-m", "assembler", *words(origin, f"{target}/x")], cwd=ROOT, text=True,
            stderr=subprocess.PIPE,
        )
    )  # fmt: skip
    _, said = process[0].communicate(timeout=10)
    assert process[0].returncode == 130
    assert said.splitlines()[-1] == "assembler: interrupted; nothing half made is left"


# -- platforms -------------------------------------------------------------------------------


def indexed(origin: FakeRegistry) -> str:
    """Let the full image be an index of two platforms and an attestation; its digest."""
    entries = []
    for arch in ("amd64", "arm64"):
        layers = [small.layer(small.full_files()), tiny.layer(arch)]
        made = origin.add(f"x:{arch}", layers, architecture=arch, **small.CONFIG)
        platform = {"platform": {"os": "linux", "architecture": arch}}
        entries.append((made.raw, made.media_type, platform))
        origin.put(FULL, made.media_type, made.raw)
    proof = origin.add("x:proof", [tiny.layer("proof")])
    origin.put(FULL, proof.media_type, proof.raw)
    unknown = {"platform": {"os": "unknown", "architecture": "unknown"}}
    return origin.index(FULL, [*entries, (proof.raw, proof.media_type, unknown)])


def test_one_platform_or_all_of_them(origin: FakeRegistry, target: str) -> None:
    digest, to = indexed(origin), target
    children = [each["digest"] for each in json.loads(origin.manifests[FULL][1])["manifests"]]
    found = copied(origin, to, "--platform", "linux/amd64")
    assert found["images"][1]["digest"] == children[0]
    # Another one would take the name from the first.
    base = ["--base", "nvcr.io/x:arm64"]
    done = run(*words(origin, to), "--platform", "linux/arm64", *base)
    assert done.returncode == 1
    assert "has another platform of" in done.stderr
    assert "--all-platforms" in done.stderr
    found = copied(origin, to, "--all-platforms")
    assert found["images"][1]["digest"] == digest
    check(origin, to)
    for child in children:
        assert oci.sha256(manifest(to, f"nvidia/tritonserver@{child}")) == child
    # And the name of all is not narrowed to one again.
    copied(origin, to, "--platform", "linux/amd64")
    check(origin, to)


# -- slim ------------------------------------------------------------------------------------


@pytest.mark.parametrize("given", [["--backend", "python"], ["--read-all"]])
def test_what_says_how_an_image_is_made_needs_slim(given: list[str]) -> None:
    done = run("mirror", "24.05", "--to", "registry.local/x", *given)
    assert (done.returncode, done.stderr) == (
        2, f"assembler: {given[0]} is for mirror --slim, which makes an image\n",
    )  # fmt: skip


def test_slim_is_made_and_its_base_is_beside_it(
    origin: FakeRegistry, target: str, tmp_path: Path
) -> None:
    small.wheel(tmp_path / "cache" / "wheels")
    to = f"{target}/team"
    found = copied(origin, to, "--slim", "--cache-dir", str(tmp_path / "cache"))
    assert [each["source"] for each in found["images"]] == ["docker.io/library/ubuntu:22.04"]
    [pushed] = found["slim"]["pushed"]
    assert pushed["reference"] == f"{to}/tritonserver:24.05-onnxruntime-python-cpu"
    made = manifest(to, "tritonserver:24.05-onnxruntime-python-cpu")
    assert oci.sha256(made) == pushed["digest"]
    with pytest.raises(urllib.error.HTTPError):
        manifest(to, FULL)
    # Somebody else makes the same from there, and reads no layer of the full image.
    small.wheel(tmp_path / "other" / "wheels")
    origin.requests.clear()
    mirrors = ["--mirror", f"nvcr.io={origin.host}", "--mirror", f"docker.io={to}"]
    done = run("extract", "24.05", *mirrors, "--cache-from", f"{to}/assembler-cache",
               "--cache-dir", tmp_path / "other", "--output", tmp_path / "out.tar",
               "--json")  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["image"]["id"] == found["slim"]["image"]["id"]
    assert not {layer.digest for layer in _layers(origin, FULL)} & set(blobs_read(origin))


# -- what goes wrong -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("more", "status", "line"),
    [
        (["--to", "nonsense"], 2, "--to 'nonsense' is not a registry (HOST[:PORT][/PATH])"),
        (["--to", ""], 2, "--to '' is not a registry"),
        (["--to", "nvcr.io"], 2, "is there already, by that very name"),
        (["--offline"], 2, "mirror needs the network"),
        (["--slim", "--all-platforms"], 2, "leave out --all-platforms"),
        (["--source", "oci:/x"], 2, "oci:/x is not in a registry"),
        (["--platform", "linux/riscv64"], 1, "has no image for linux/riscv64"),
        (["--to", "localhost:1/x"], 1, "localhost:1 refuses connections"),
    ],
)
def test_one_line_says_what_is_wrong(
    origin: FakeRegistry, target: str, more: list[str], status: int, line: str
) -> None:
    done = run(*words(origin, target), "-q", *more)
    assert (done.returncode, len(done.stderr.splitlines())) == (status, 1), done.stderr
    assert line in done.stderr


def test_a_source_with_wrong_content_is_not_copied(origin: FakeRegistry, target: str) -> None:
    bad = _layers(origin, FULL)[3]
    origin.fault(bad.digest, changed(lambda body: body[:-1] + bytes([body[-1] ^ 1])), times=99)
    done = run(*words(origin, target), "-q")
    assert done.returncode == 1
    assert f"{bad.digest[:19]}… of nvcr.io/{FULL} has digest" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    with pytest.raises(urllib.error.HTTPError):
        manifest(target, FULL)


def test_a_source_that_lacks_a_layer(origin: FakeRegistry, target: str) -> None:
    origin.fault(_layers(origin, FULL)[3].digest, error(404, "BLOB_UNKNOWN", "gone"), times=99)
    done = run(*words(origin, target), "-q")
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount a small disk")
def test_a_registry_that_runs_out_of_space(origin: FakeRegistry, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1250k", "none", str(disk)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("no disk can be mounted here")
    try:
        with registry(disk) as host:
            done = run(*words(origin, host), "-q")
            assert done.returncode == 1
            assert f"{host} has no room for sha256:" in done.stderr
            assert len(done.stderr.splitlines()) == 1
            with pytest.raises(urllib.error.HTTPError):
                manifest(host, FULL)
            subprocess.run(["mount", "-o", "remount,size=20m", str(disk)], check=True)
            copied(origin, host)
            check(origin, host)
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)
