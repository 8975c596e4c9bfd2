"""`extract --push` into a real registry: what docker, skopeo and a scanner find there."""

from __future__ import annotations

import json
import subprocess
import sys
import uuid
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from assembler import oci
from assembler.destinations.registry import RegistryDestination
from assembler.papers import record
from assembler.reference import ImageName
from assembler.registries import referrers
from assembler.registries.client import RegistryClient
from tests.conftest import ROOT, run
from tests.integration import small
from tests.standin.services import registry
from tests.unit import tiny
from tests.unit.fake_registry import Change, Reply, Request, error, status
from tests.unit.fake_uploads import WritableRegistry, refusal


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A docker-registry, which has no referrers API (distribution 2.8)."""
    with registry(tmp_path_factory.mktemp("registry")) as found:
        yield found


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("small")
    small.wheel(folder / "cache" / "wheels")
    return [
        "extract", "--source", f"oci:{small.full(folder / 'full')}",
        "--base", f"oci:{small.base(folder / 'base')}", "--cache-dir", f"{folder / 'cache'}",
    ]  # fmt: skip


def pushed(words: list[str], *more: str | Path) -> dict[str, Any]:
    done = run(*words, "--json", *more)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def inspect(reference: str, *more: str) -> str:
    return subprocess.run(
        ["skopeo", "inspect", "--tls-verify=false", *more, f"docker://{reference}"],
        check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip


def test_skopeo_and_docker_pull_what_was_pushed(
    words: list[str], host: str, docker_engine: None, tmp_path: Path
) -> None:
    name = f"{host}/team/push-{uuid.uuid4().hex[:8]}:24.05"
    found = pushed(words, "--push", name)
    assert found["pushed"] == [{"reference": name, "digest": found["image"]["digest"]}]
    assert found["image"]["tags"] == [], "nothing is loaded into the Engine"
    assert inspect(name, "--format", "{{.Digest}}").strip() == found["image"]["digest"]
    copied = tmp_path / "copied"
    subprocess.run(
        [
            "skopeo",
            "copy",
            "--quiet",
            "--src-tls-verify=false",
            f"docker://{name}",
            f"dir:{copied}",
        ],
        check=True,
    )
    try:
        subprocess.run(["docker", "pull", "--quiet", name], check=True, capture_output=True)
        shown = subprocess.run(
            ["docker", "image", "inspect", name, "--format", "{{.Id}} {{.RepoDigests}}"],
            check=True, capture_output=True, text=True,
        ).stdout  # fmt: skip
        assert found["image"]["id"] in shown
        assert found["image"]["digest"] in shown
    finally:
        subprocess.run(["docker", "rmi", "--force", name], check=False, capture_output=True)


def test_the_record_is_found_by_the_digest(words: list[str], host: str) -> None:
    name = f"{host}/team/recorded:1"
    digest = pushed(words, "--push", name)["image"]["digest"]
    client = RegistryClient()
    [found] = referrers.listed(client, ImageName.parse(name), digest, record.TYPE)
    manifest = json.loads(client.get_manifest(ImageName.parse(name), found.descriptor.digest).raw)
    assert manifest["subject"]["digest"] == digest
    tagged = json.loads(inspect(f"{host}/team/recorded:{digest.replace(':', '-')}", "--raw"))
    assert record.TYPE in [each["artifactType"] for each in tagged["manifests"]]
    client.close()


def test_several_names_and_a_layout_at_once(words: list[str], host: str, tmp_path: Path) -> None:
    names = [f"{host}/team/one:1", f"{host}/team/one:2", f"{host}/other/two:1"]
    out = tmp_path / "layout"
    found = pushed(words, *(w for n in names for w in ("--push", n)), "--output", out)
    digests = {inspect(name, "--format", "{{.Digest}}").strip() for name in names}
    assert digests == {found["image"]["digest"]}
    index = json.loads((out / "index.json").read_text())
    assert found["image"]["digest"] in [each["digest"] for each in index["manifests"]]


def test_with_a_tag_it_goes_into_the_engine_as_well(
    words: list[str], host: str, docker_engine: None
) -> None:
    tag = f"push-{uuid.uuid4().hex[:8]}:1"
    try:
        found = pushed(words, "--push", f"{host}/team/both:1", "--tag", tag)
        assert found["image"]["tags"] == [tag]
        subprocess.run(["docker", "image", "inspect", tag], check=True, capture_output=True)
    finally:
        subprocess.run(["docker", "rmi", "--force", tag], check=False, capture_output=True)


def test_the_second_push_sends_nothing(words: list[str], host: str) -> None:
    first = pushed(words, "--push", f"{host}/team/again:1")
    second = pushed(words, "--push", f"{host}/team/again:1")
    assert first["pushed"] == second["pushed"]


def test_a_tag_for_several_platforms(words: list[str], host: str, tmp_path: Path) -> None:
    name = ImageName.parse(f"{host}/team/multi:1")
    digests: dict[str, str] = {}

    def push(arch: str, text: str) -> None:
        made = tiny.image(tmp_path / f"{arch}-{text}", [tiny.layer(text)], architecture=arch)
        made = replace(made, platform=oci.Platform("linux", arch))
        client = RegistryClient()
        RegistryDestination([name], client, multi_platform=True).deliver(made, ())
        client.close()
        digests[arch] = made.digest

    first = pushed(words, "--push", str(name))["image"]["digest"]
    found = pushed(words, "--push", str(name), "--multi-platform")
    assert found["image"]["digest"] == first
    push("arm64", "old")
    push("arm64", "new")
    raw = inspect(str(name), "--raw")
    entries = {
        each["platform"]["architecture"]: each["digest"] for each in json.loads(raw)["manifests"]
    }
    assert entries == {"amd64": first, "arm64": digests["arm64"]}
    push("arm64", "new")
    assert [each["platform"]["architecture"] for each in json.loads(raw)["manifests"]] == [
        "amd64", "arm64",
    ]  # fmt: skip
    for arch, digest in entries.items():
        config = inspect(str(name), "--override-arch", arch, "--config")
        assert json.loads(config)["architecture"] == arch
        assert inspect(f"{host}/team/multi@{digest}", "--raw")


@pytest.mark.parametrize(
    ("more", "status", "line"),
    [
        (["--push", "HOST/team/x:1", "--offline"], 2, "needs the network, and --offline"),
        (["--push", "HOST/Team/x:1"], 2, "repository names are lower case"),
        (["--push", f"HOST/team/x@sha256:{64 * 'a'}"], 2, "push to a tag"),
        (["--multi-platform"], 2, "--multi-platform is for --push"),
        (["--push", "localhost:1/team/x:1"], 1, "localhost:1 refuses connections"),
    ],
)
def test_what_cannot_be_pushed_is_told_before_any_work(
    words: list[str], host: str, more: list[str], status: int, line: str
) -> None:
    done = run(*words, *(each.replace("HOST", host) for each in more))
    assert done.returncode == status, done.stderr
    assert line in done.stderr
    assert len(done.stderr.splitlines()) == 1, "nothing was read"


# -- what goes wrong on the way --------------------------------------------------------------

# The same command, less patient with registries: seconds become hundredths.
HASTY = """
import sys, assembler.registries.retries as r, assembler.__main__ as m
r.Policy.__init__.__defaults__ = (2, 0.01, 0.01, 1.0, 2.0)
sys.argv[0] = "assembler"
m.main()
"""
FULL_DISK = error(500, "UNKNOWN", "write /data/x: no space left on device")


@pytest.fixture
def scripted() -> Iterator[WritableRegistry]:
    made = WritableRegistry()
    yield made
    made.close()


@pytest.mark.parametrize(
    ("method", "path", "change", "after", "line"),
    [
        ("PUT", "/manifests/1", error(409, "X", "exists"), 0, "does not let it be moved"),
        ("PUT", "/manifests/1", error(403, "X", "tag is immutable"), 0, "choose another tag"),
        ("PUT", "/blobs/", FULL_DISK, 2, "has no room for"),
        ("PUT", "/blobs/", status(507), 2, "has no room for"),
        ("PUT", "/blobs/", status(502), 2, "answered 502 Bad Gateway"),
        ("PUT", "/blobs/", error(404, "BLOB_UPLOAD_UNKNOWN", "x"), 2, "the upload is lost"),
        ("POST", "/blobs/", error(405, "UNSUPPORTED", "read-only"), 0, "is read-only"),
        ("POST", "/blobs/", error(403, "DENIED", "no"), 0, "as somebody who may push there"),
        ("POST", "/blobs/", status(200, b"<html>"), 0, "200 OK for an upload to"),
    ],
    ids=["409", "immutable", "full", "507", "502", "lost", "405", "403", "website"],
)
def test_a_registry_that_refuses_gets_no_half_image(
    words: list[str],
    scripted: WritableRegistry,
    method: str,
    path: str,
    change: Change,
    after: int,
    line: str,
    tmp_path: Path,
) -> None:
    scripted.fault(path, change, times=99, after=after, method=method)
    out = tmp_path / "out.tar"
    done = subprocess.run(
        [sys.executable, "-c", HASTY, *words, "-q", "--push", f"{scripted.host}/team/x:1",
         "--output", str(out)],
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 1
    assert line in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert "team/x:1" not in scripted.manifests
    assert not out.exists()


def test_a_registry_that_takes_no_artifacts_gets_the_image(
    words: list[str], scripted: WritableRegistry
) -> None:
    def refuse(request: Request, _: Reply) -> Reply:
        if b'"artifactType"' in request.body:
            return refusal(400, "MANIFEST_INVALID", "unknown media type")
        return scripted._content(request)

    scripted.fault("/manifests/", refuse, times=99, method="PUT")
    done = run(*words, "-q", "--push", f"{scripted.host}/team/x:1")
    assert done.returncode == 0
    assert done.stderr.startswith("warning: not beside the image: ")
    assert "unknown media type" in done.stderr
    assert "team/x:1" in scripted.manifests
