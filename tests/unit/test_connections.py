"""Proxies, certificates, challenges: the environment is obeyed, and what fails is named."""

from __future__ import annotations

import socket
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from assembler.errors import SourceError
from assembler.reference import ImageName
from assembler.registries import tokens
from assembler.registries.client import RegistryClient
from assembler.registries.connections import CA_VARIABLES, Connections
from tests.unit import tiny
from tests.unit.fake_registry import FakeRegistry, redirect, status

NAME = "registry.test"


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch) -> None:
    """No proxies and no CA bundles but a test's own; and *.test is this machine."""
    for key in ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY", *CA_VARIABLES):
        monkeypatch.delenv(key, raising=False)
        monkeypatch.delenv(key.lower(), raising=False)
    real = socket.getaddrinfo

    def resolve(host: Any, *more: Any, **options: Any) -> Any:
        return real("127.0.0.1" if str(host).endswith(".test") else host, *more, **options)

    monkeypatch.setattr(socket, "getaddrinfo", resolve)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A self-signed certificate for registry.test, with its key, in one file."""
    folder = tmp_path_factory.mktemp("tls")
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    command += ["-subj", f"/CN={NAME}", "-addext", f"subjectAltName=DNS:{NAME}"]
    command += ["-keyout", str(folder / "key"), "-out", str(folder / "crt")]
    subprocess.run(command, check=True, capture_output=True)
    both = folder / "both.pem"
    both.write_bytes((folder / "key").read_bytes() + (folder / "crt").read_bytes())
    return both


@pytest.fixture
def secure(certificate: Path) -> Iterator[FakeRegistry]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    made = FakeRegistry(NAME, context)
    made.add("a:1", [tiny.layer("x")])
    yield made
    made.close()


@pytest.fixture
def plain() -> Iterator[FakeRegistry]:
    made = FakeRegistry(NAME)
    made.add("a:1", [tiny.layer("x")])
    yield made
    made.close()


def ask(host: str, ca: Path | None = None, **options: Any) -> str:
    """The digest of a:1 at `host`, or the line that the user sees."""
    client = RegistryClient(
        find=lambda _: None, connections=Connections(1, 1, ca), sleep=lambda _: None, **options
    )
    try:
        return client.get_manifest(ImageName.parse(f"{host}/a:1")).digest
    except SourceError as error:
        assert "\n" not in str(error)
        return str(error)
    finally:
        client.close()


@pytest.mark.parametrize("variable", CA_VARIABLES)
def test_a_private_authority_is_trusted_when_named(
    secure: FakeRegistry, certificate: Path, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    said = ask(secure.host)
    assert said.startswith(f"{secure.host} has a TLS certificate that is not trusted (self")
    assert said.endswith("name that in SSL_CERT_FILE")
    monkeypatch.setenv(variable, str(certificate))
    assert ask(secure.host).startswith("sha256:")
    monkeypatch.setenv(variable, "/no/such/bundle")
    assert ask(secure.host) == f"{variable} names /no/such/bundle, which does not exist"


def test_an_authority_of_the_config_file_is_trusted_beside_the_environments(
    secure: FakeRegistry, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert ask(secure.host, certificate).startswith("sha256:")
    monkeypatch.setenv("SSL_CERT_FILE", requests.certs.where())
    assert ask(secure.host, certificate).startswith("sha256:")


def test_plain_http_only_where_it_is_allowed(plain: FakeRegistry) -> None:
    assert ask(plain.host) == (
        f"{plain.host} does not speak TLS: list it as insecure if plain HTTP will do"
    )
    assert not plain.requests
    assert ask(plain.host, insecure=[plain.host]).startswith("sha256:")


def test_no_way_down_from_tls_to_plain_http(
    secure: FakeRegistry, plain: FakeRegistry, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    secure.fault("/manifests/", redirect(plain.url))
    assert ask(secure.host) == f"{secure.host} redirects to plain HTTP at {plain.host}"
    assert not plain.requests


def test_proxies_come_from_the_environment(
    plain: FakeRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The fake registry serves as the proxy: it is asked for whole URLs, and sees which.
    monkeypatch.setenv("HTTP_PROXY", f"http://user:p4ss@127.0.0.1:{plain.host.split(':')[1]}")
    assert ask("far.example", insecure=["far.example"]).startswith("sha256:")
    assert plain.requests[-1].headers["host"] == "far.example"
    count = len(plain.requests)
    monkeypatch.setenv("NO_PROXY", "far.example")
    assert "far.example: no such host" in ask("far.example", insecure=["far.example"])
    assert len(plain.requests) == count


def test_this_machine_is_never_behind_a_proxy(
    plain: FakeRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    assert ask(plain.host.replace(NAME, "127.0.0.1")).startswith("sha256:")


@pytest.mark.parametrize(
    ("summary", "proxy", "said"),
    [
        ("not running", "127.0.0.1:1", "127.0.0.1:1 refuses connections"),
        ("unknown", "proxy.invalid:3128", "proxy.invalid:3128: no such host"),
        ("wants a password", "PLAIN", "Tunnel connection failed: 407 Proxy"),
    ],
)
def test_a_proxy_that_fails_is_named_without_its_password(
    plain: FakeRegistry, monkeypatch: pytest.MonkeyPatch, summary: str, proxy: str, said: str
) -> None:
    del summary
    plain.fault(".", status(407), times=9)
    proxy = proxy.replace("PLAIN", plain.host)
    monkeypatch.setenv("HTTPS_PROXY", f"http://user:p4ss@{proxy}")
    line = ask("far.example")
    assert line.startswith("far.example cannot be reached through the proxy: ")
    assert said in line
    assert "p4ss" not in line


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("", []),
        ("Basic", [("basic", {})]),
        ('Basic realm="a, b"', [("basic", {"realm": "a, b"})]),
        (
            'Bearer realm="https://a/t?x=1&y=2",service="s",scope="repository:a/b:pull,push"',
            [
                (
                    "bearer",
                    {
                        "realm": "https://a/t?x=1&y=2",
                        "service": "s",
                        "scope": "repository:a/b:pull,push",
                    },
                )
            ],
        ),
        (
            'Negotiate, BEARER Realm=https://a/t , error = "invalid \\"token\\"", Basic realm="b"',
            [
                ("negotiate", {}),
                ("bearer", {"realm": "https://a/t", "error": 'invalid "token"'}),
                ("basic", {"realm": "b"}),
            ],
        ),
        ("=;;; nonsense", []),
    ],
)
def test_challenges(header: str, expected: list[tuple[str, dict[str, str]]]) -> None:
    found = [(each.scheme, dict(each.parameters)) for each in tokens.parse_challenges(header)]
    assert found == expected
