"""Credentials: what `docker login` stored is found, and nothing in it can stop a run."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from assembler.registries.credentials import Credentials, DockerLogin, config_file, login_command

AUTH = base64.b64encode(b"$oauthtoken:pa:ss").decode()
FOUND = Credentials("$oauthtoken", "pa:ss")
HELPED = Credentials("from-helper", "s3cret")
HUB = "https://index.docker.io/v1/"

# Prints what docker-credential-helpers' protocol has for one server, an error for all others.
HELPER = """#!/bin/sh
read -r server
case "$server" in
  nvcr.io) echo '{"ServerURL": "nvcr.io", "Username": "from-helper", "Secret": "s3cret"}' ;;
  https://index.docker.io/v1/) echo '{"Username": "<token>", "Secret": "IDENTITY"}' ;;
  garbage.io) echo 'dial tcp: no such keyring' ;;
  *) echo 'credentials not found in native keychain'; exit 1 ;;
esac
"""

TABLE: list[tuple[str, Any, str, Credentials | None, str]] = [
    ("no login", {}, "nvcr.io", None, ""),
    ("a login", {"auths": {"nvcr.io": {"auth": AUTH}}}, "nvcr.io", FOUND, ""),
    ("with a port", {"auths": {"r.local:5000": {"auth": AUTH}}}, "r.local:5000", FOUND, ""),
    ("another's", {"auths": {"nvcr.io": {"auth": AUTH}}}, "ghcr.io", None, ""),
    ("as a URL", {"auths": {"https://nvcr.io/v1/": {"auth": AUTH}}}, "nvcr.io", FOUND, ""),
    ("Docker Hub", {"auths": {HUB: {"auth": AUTH}}}, "docker.io", FOUND, ""),
    (
        "identity token",
        {"auths": {"nvcr.io": {"auth": AUTH, "identitytoken": "IDENTITY"}}},
        "nvcr.io",
        Credentials(identity_token="IDENTITY"),
        "",
    ),
    (
        "empty identity token",
        {"auths": {"nvcr.io": {"auth": AUTH, "identitytoken": ""}}},
        "nvcr.io",
        FOUND,
        "",
    ),
    (
        "a placeholder, as Docker Desktop leaves it",
        {"auths": {"nvcr.io": {}}},
        "nvcr.io",
        None,
        "",
    ),
    (
        "a malformed entry",
        {"auths": {"nvcr.io": {"auth": "%%%"}}},
        "nvcr.io",
        None,
        "the credentials for nvcr.io in CONFIG cannot be read: going on without a login",
    ),
    (
        "another's malformed entry",
        {"auths": {"x.io": {"auth": "%%%"}, "nvcr.io": {"auth": AUTH}, "y.io": 3}},
        "nvcr.io",
        FOUND,
        "",
    ),
    ("a helper", {"credHelpers": {"nvcr.io": "fake"}}, "nvcr.io", HELPED, ""),
    ("a helper for all", {"credsStore": "fake"}, "nvcr.io", HELPED, ""),
    (
        "Docker Hub's helper",
        {"credsStore": "fake"},
        "docker.io",
        Credentials(identity_token="IDENTITY"),
        "",
    ),
    (
        "Docker Hub's own helper",
        {"credHelpers": {HUB: "fake"}},
        "docker.io",
        Credentials(identity_token="IDENTITY"),
        "",
    ),
    ("a helper that has none", {"credsStore": "fake"}, "ghcr.io", None, ""),
    (
        "a helper that has none, and a login",
        {"credsStore": "fake", "auths": {"ghcr.io": {"auth": AUTH}}},
        "ghcr.io",
        FOUND,
        "",
    ),
    (
        "a helper that prints nonsense",
        {"credsStore": "fake"},
        "garbage.io",
        None,
        "the credentials for garbage.io in CONFIG cannot be read: going on without a login",
    ),
    (
        "a helper that is not installed",
        {"credsStore": "desktop"},
        "nvcr.io",
        None,
        "docker-credential-desktop, named in CONFIG, is not installed: going on without a login",
    ),
    (
        "a helper that is not installed, and a login",
        {"credsStore": "desktop", "auths": {"nvcr.io": {"auth": AUTH}}},
        "nvcr.io",
        FOUND,
        "docker-credential-desktop, named in CONFIG, is not installed: going on without a login",
    ),
    ("not JSON", "{", "nvcr.io", None, "CONFIG cannot be read (it is not JSON): going on without"),
    ("not an object", [], "nvcr.io", None, ""),
]


@pytest.fixture
def helper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "bin" / "docker-credential-fake"
    program.parent.mkdir()
    program.write_text(HELPER)
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")


@pytest.mark.usefixtures("helper")
@pytest.mark.parametrize(
    ("config", "registry", "expected", "warning"),
    [row[1:] for row in TABLE],
    ids=[row[0] for row in TABLE],
)
def test_what_is_found(
    tmp_path: Path, config: Any, registry: str, expected: Credentials | None, warning: str
) -> None:
    path = tmp_path / "config.json"
    path.write_text(config if isinstance(config, str) else json.dumps(config))
    warnings: list[str] = []
    login = DockerLogin(warnings.append, path)
    assert login.find(registry) == expected
    assert login.find(registry) == expected
    if warning:
        assert len(warnings) == 1, "said once"
        assert warnings[0].replace(str(path), "CONFIG").startswith(warning)
    else:
        assert not warnings


def test_where_the_file_is(tmp_path: Path) -> None:
    assert config_file({"DOCKER_CONFIG": str(tmp_path)}) == tmp_path / "config.json"
    assert config_file({}).parts[-2:] == (".docker", "config.json")
    assert DockerLogin(path=tmp_path / "none" / "config.json").find("nvcr.io") is None


def test_secrets_are_not_in_the_representation() -> None:
    text = repr([FOUND, Credentials(identity_token="IDENTITY")])
    assert not any(secret in text for secret in ("oauthtoken", "pa:ss", "IDENTITY"))


def test_the_command_that_helps() -> None:
    assert login_command("nvcr.io") == "`docker login nvcr.io`"
    assert login_command("docker.io") == "`docker login`"


@pytest.mark.parametrize(
    ("summary", "config"),
    [
        ("no file", None),
        ("a file about other things", {"psFormat": "x", "HttpHeaders": {}}),
        ("logins for others", {"auths": {"ghcr.io": {"auth": AUTH}}, "credHelpers": {"x": "y"}}),
    ],
)
def test_docker_is_not_imported_without_need(tmp_path: Path, summary: str, config: Any) -> None:
    del summary
    if config is not None:
        (tmp_path / "config.json").write_text(json.dumps(config))
    program = (
        "import sys; from assembler.registries.credentials import DockerLogin\n"
        "import assembler.sources.registry\n"
        "assert DockerLogin().find('nvcr.io') is None; assert 'docker' not in sys.modules"
    )
    environ = {"DOCKER_CONFIG": str(tmp_path), "PYTHONPATH": "."}
    folder = Path(__file__).parents[2]
    subprocess.run([sys.executable, "-c", program], check=True, cwd=folder, env=environ)
