"""`extract --push` into a real registry: what docker, skopeo and a scanner find there."""

from __future__ import annotations

import json
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from assembler import record, referrers
from assembler.reference import ImageName
from assembler.registry import RegistryClient
from tests.conftest import run
from tests.integration import small
from tests.standin.services import registry


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
    assert [each["artifactType"] for each in tagged["manifests"]] == [record.TYPE]
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


@pytest.mark.parametrize(
    ("more", "status", "line"),
    [
        (["--push", "HOST/team/x:1", "--offline"], 2, "needs the network, and --offline"),
        (["--push", "HOST/Team/x:1"], 2, "repository names are lower case"),
        (["--push", f"HOST/team/x@sha256:{64 * 'a'}"], 2, "push to a tag"),
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
