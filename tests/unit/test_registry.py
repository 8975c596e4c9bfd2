"""Images from a registry: read however badly it behaves; and what is said when they cannot be."""

from __future__ import annotations

import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import pytest

from assembler import oci
from assembler.errors import AssemblerError, SourceError, VerificationError
from assembler.reference import ImageName, is_loopback
from assembler.registries.client import RegistryClient
from assembler.registries.connections import Connections
from assembler.registries.credentials import Credentials
from assembler.registries.mirrors import Mirror
from assembler.registries.retries import Policy
from assembler.registries.tokens import Authorizer
from assembler.sources.registry import RegistrySource
from tests.unit import tiny
from tests.unit.fake_registry import (
    Basic,
    Bearer,
    Change,
    FakeRegistry,
    Reply,
    Request,
    changed,
    chunked,
    cut,
    error,
    gzipped,
    redirect,
    silent,
    status,
    truncated,
)
from tests.unit.tiny import AMD64, contents

# Of bytes that do not compress, so that a layer is longer than one piece of a download.
NOISE = b"".join(hashlib.sha256(b"%d" % n).digest() for n in range(20_000))
ONE, TWO = tiny.tar({"noise": NOISE}), tiny.layer("two", text="2")
TARS = [ONE, TWO]
IMAGE = "nvidia/tritonserver:24.05-py3"
BLOBS = "/blobs/"
FIRST = f"/blobs/{oci.sha256(tiny.pack(ONE, 'gzip'))}"


class Clock:
    """A clock that only moves when somebody sleeps; it keeps how long, in seconds."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.slept: list[float] = []

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


@pytest.fixture
def registry() -> Iterator[FakeRegistry]:
    made = FakeRegistry()
    made.add(IMAGE, TARS)
    yield made
    made.close()


@pytest.fixture
def storage() -> Iterator[FakeRegistry]:
    """Another host with the same blobs, where redirects lead to."""
    made = FakeRegistry("localhost")
    made.add(IMAGE, TARS)
    yield made
    made.close()


@pytest.fixture
def clock() -> Clock:
    return Clock()


Connect = Callable[..., RegistryClient]


@pytest.fixture
def connect(clock: Clock) -> Iterator[Connect]:
    """Makes clients that have no credentials, do not really wait, and lose patience soon."""
    made: list[RegistryClient] = []

    def make(**options: Any) -> RegistryClient:
        defaults: dict[str, Any] = {
            "find": lambda _: None,
            "connections": Connections(2, 1),
            "clock": clock,
            "sleep": clock.sleep,
        }
        made.append(RegistryClient(**defaults | options))
        return made[-1]

    yield make
    for client in made:
        client.close()


def opened(
    registry: FakeRegistry, client: RegistryClient, image: str = IMAGE, **options: Any
) -> RegistrySource:
    return RegistrySource(ImageName.parse(f"{registry.host}/{image}"), AMD64, client, **options)


def refusal(registry: FakeRegistry, client: RegistryClient, image: str = IMAGE) -> str:
    """The line that the user sees, with HOST for the registry's."""
    with pytest.raises(AssemblerError) as caught:
        contents(opened(registry, client, image))
    assert "\n" not in str(caught.value)
    return str(caught.value).replace(registry.host, "HOST")


# -- reading ------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["gzip", "members", "zstd", ""])
@pytest.mark.parametrize("docker", [False, True], ids=["oci types", "docker types"])
def test_layers_come_as_they_were_put_in(
    registry: FakeRegistry, connect: Connect, how: str, docker: bool
) -> None:
    manifest = registry.add(IMAGE, TARS, how=how, docker=docker)
    source = opened(registry, connect())
    assert contents(source) == TARS
    assert source.digest == manifest.digest
    assert source.sizes == tuple(layer.size for layer in manifest.layers)
    assert source.diff_ids == tuple(oci.sha256(each) for each in TARS)


def test_layers_are_copied_as_they_are_stored(
    registry: FakeRegistry, connect: Connect, tmp_path: Path
) -> None:
    manifest = registry.add(IMAGE, [ONE, TWO, ONE], how="zstd", docker=True)
    client = connect()
    descriptors = opened(registry, client).copy_layers(tmp_path)
    assert [d.digest for d in descriptors] == [layer.digest for layer in manifest.layers]
    assert {d.media_type for d in descriptors} == {f"{oci.OCI_LAYER}+zstd"}
    files = {path.name: path.read_bytes() for path in (tmp_path / "sha256").iterdir()}
    assert files == {d.digest[7:]: registry.blobs[d.digest] for d in descriptors}
    assert len(registry.seen(BLOBS)) == 3, "the layer that comes twice is read once; and the config"
    registry.requests.clear()
    assert opened(registry, client).copy_layers(tmp_path) == descriptors
    assert len(registry.seen(BLOBS)) == 1, "what is there is trusted; the config is small"


def test_every_byte_is_counted_and_told(registry: FakeRegistry, connect: Connect) -> None:
    client, told = connect(), {0: 0, 1: 0}

    def on_bytes(index: int, count: int) -> None:
        told[index] += count

    source = opened(registry, client, on_bytes=on_bytes)
    assert client.bytes_read == len(source.manifest.raw) + len(source.config)
    before = client.bytes_read
    contents(source)
    assert told == dict(enumerate(source.sizes))
    assert client.bytes_read - before == sum(source.sizes)


def test_the_platform_is_chosen_and_attestations_are_not(
    registry: FakeRegistry, connect: Connect
) -> None:
    wanted = registry.add("r:amd", TARS)
    other = registry.add("r:arm", TARS, architecture="arm64")
    amd, arm = ({"platform": {"os": "linux", "architecture": a}} for a in ("amd64", "arm64"))
    attestation: dict[str, Any] = {"platform": {"os": "unknown", "architecture": "unknown"}}
    kind = oci.OCI_MANIFEST
    entries = [(other.raw, kind, attestation), (other.raw, kind, arm), (wanted.raw, kind, amd)]
    registry.index("r:index", entries)
    assert opened(registry, connect(), "r:index").digest == wanted.digest
    raw = registry.manifests["r:index"][1]
    registry.index("r:nested", [(raw, oci.OCI_INDEX, amd)])
    assert opened(registry, connect(), "r:nested").digest == wanted.digest
    registry.index("r:arm-only", [(other.raw, kind, arm), (other.raw, kind, attestation)])
    assert refusal(registry, connect(), "r:arm-only") == (
        "HOST/r:arm-only has no image for linux/amd64; it has linux/arm64 "
        "(choose one with --platform)"
    )
    assert "it is for linux/arm64 alone" in refusal(registry, connect(), "r:arm")


def test_a_digest_is_asked_for_and_checked(registry: FakeRegistry, connect: Connect) -> None:
    digest = registry.add(IMAGE, TARS).digest
    pinned = f"nvidia/tritonserver:moved-on@{digest}"
    assert opened(registry, connect(), pinned).digest == digest
    registry.manifests[f"nvidia/tritonserver@{digest}"] = (oci.OCI_MANIFEST, b'{"layers": []}')
    assert "has digest sha256:" in refusal(registry, connect(), pinned)


# -- broken connections -------------------------------------------------------------------

SIZE = len(tiny.pack(ONE, "gzip"))
HALF = SIZE // 2
GRAIN = 128 << 10

# Summary, fault, how often, after how many good ones; and how many bytes more may be read.
MENDED: list[tuple[str, Change, int, int]] = [
    ("broken once", cut(HALF), 1, GRAIN),
    ("broken at once", cut(0), 1, 0),
    ("broken again and again", cut(GRAIN * 3 // 2), 3, GRAIN * 3),
    ("silent for longer than the time-out", silent(1.4), 1, 0),
    ("500", status(500), 2, 0),
    ("503 with Retry-After", status(503, Retry_After="7"), 1, 0),
    ("429 with Retry-After", status(429, Retry_After="7"), 1, 0),
    ("a length not told", chunked(), 1, 0),
    ("compressed by a proxy", chunked(gzipped, Content_Encoding="gzip"), 1, SIZE),
    ("labelled as compressed, wrongly", changed(bytes, Content_Encoding="gzip"), 1, 0),
]


@pytest.mark.parametrize(
    ("fault", "times", "more"), [row[1:] for row in MENDED], ids=[row[0] for row in MENDED]
)
def test_a_layer_arrives_whole_although(
    registry: FakeRegistry, connect: Connect, fault: Change, times: int, more: int
) -> None:
    client = connect()
    source = opened(registry, client)
    before = client.bytes_read
    registry.fault(BLOBS, fault, times)
    assert source.read([0], tiny.read_all) == {0: ONE}
    assert client.bytes_read - before <= SIZE + more


def test_a_broken_layer_goes_on_where_it_broke(registry: FakeRegistry, connect: Connect) -> None:
    source = opened(registry, connect())
    registry.requests.clear()
    registry.fault(BLOBS, cut(HALF))
    source.read([0], tiny.read_all)
    ranges = [request.headers.get("range") for request in registry.seen(BLOBS)]
    assert ranges == [None, f"bytes={HALF}-{SIZE - 1}"], "closed: open ones are answered with 416"


@pytest.mark.parametrize(
    ("summary", "fault"),
    [
        ("ranges are not known here", None),
        ("416", status(416)),
        ("another start", changed(bytes, Content_Range=f"bytes 0-{SIZE - 1}/{SIZE}")),
        (
            "another blob's size",
            changed(bytes, Content_Range=f"bytes {HALF}-{SIZE - 1}/{SIZE + 1}"),
        ),
        ("no Content-Range", lambda _, reply: type(reply)(206, {}, reply.body)),
    ],
)
def test_it_starts_over_when_the_rest_cannot_be_had(
    registry: FakeRegistry, connect: Connect, summary: str, fault: Change | None
) -> None:
    del summary
    source = opened(registry, connect())
    registry.fault(BLOBS, cut(HALF))
    if fault:
        registry.fault(BLOBS, fault)
    else:
        registry.ranges = False
    assert source.read([0], tiny.read_all) == {0: ONE}


def test_patience_has_an_end(registry: FakeRegistry, connect: Connect, clock: Clock) -> None:
    source = opened(registry, connect())
    registry.fault(BLOBS, cut(0), times=100)
    with pytest.raises(SourceError, match=r"layer 1 of .* broke the connection"):
        source.read([0], tiny.read_all)
    # Two seconds, doubling, with a tenth of jitter.
    assert [int(each / 2) for each in clock.slept] in ([1, 2, 4, 8, 16], [1, 2, 4, 8, 17])
    assert len(registry.seen(BLOBS)) == 2 + 5, "the config, the first try and five more"


def test_a_wait_is_told_of(registry: FakeRegistry, connect: Connect) -> None:
    said: list[str] = []
    registry.fault("/manifests/", status(503), times=2)
    opened(registry, connect(note=said.append))
    assert [each.rpartition(": ")[2] for each in said] == [
        "trying again in 2 s", "trying again in 4 s",
    ]  # fmt: skip
    assert all("answered 503" in each for each in said)


def test_progress_renews_patience(registry: FakeRegistry, connect: Connect) -> None:
    big = tiny.tar({"noise": NOISE * 20})
    registry.add("big:1", [big], how="")
    source = opened(registry, connect(), "big:1")
    registry.fault(BLOBS, cut((1 << 20) + 5), times=100)
    assert source.read([0], tiny.read_all) == {0: big}
    assert len(registry.seen(BLOBS)) > 7


def test_retry_after_is_honoured_up_to_a_point(
    registry: FakeRegistry, connect: Connect, clock: Clock
) -> None:
    registry.fault("/manifests/", status(429, Retry_After="17"))
    registry.fault("/manifests/", status(503, Retry_After="Wed, 21 Oct 2015 07:28:00 GMT"))
    opened(registry, connect())
    assert clock.slept == [17, 0.1]
    registry.fault("/manifests/", status(429, Retry_After="7200"))
    assert "429): try again in 2 h, or raise the limit with `docker" in refusal(registry, connect())
    assert len(clock.slept) == 2, "nobody waits two hours for a command"


# -- storage elsewhere --------------------------------------------------------------------


def test_a_token_never_leaves_the_registry(
    registry: FakeRegistry, storage: FakeRegistry, connect: Connect
) -> None:
    registry.login = Bearer()
    registry.fault(BLOBS, redirect(storage.url), times=100)
    assert contents(opened(registry, connect())) == TARS
    assert len(storage.requests) == 3
    for request in storage.requests:
        assert "authorization" not in request.headers
        assert "cookie" not in request.headers
    assert all("authorization" in request.headers for request in registry.seen(BLOBS)[-3:])


def test_an_ended_signature_is_renewed_at_the_registry(
    registry: FakeRegistry, storage: FakeRegistry, connect: Connect
) -> None:
    source = opened(registry, connect())
    registry.requests.clear()
    registry.fault(BLOBS, redirect(storage.url), times=100)
    storage.fault(BLOBS, cut(HALF))
    storage.fault(BLOBS, status(403, b"<Error><StringToSign>SECRET</StringToSign></Error>"))
    assert source.read([0], tiny.read_all) == {0: ONE}
    assert len(registry.seen(BLOBS)) == 3, "each try starts at the registry"
    assert [r.headers.get("range") for r in storage.requests][1:] == [
        f"bytes={HALF}-{SIZE - 1}"
    ] * 2


def test_signatures_are_not_shown(
    registry: FakeRegistry, storage: FakeRegistry, connect: Connect
) -> None:
    registry.fault(BLOBS, redirect(storage.url), times=100)
    storage.fault(BLOBS, status(403, b"<StringToSign>SECRET</StringToSign>"), times=100)
    line = refusal(registry, connect())
    assert "SECRET" not in line
    assert f"{storage.host}, where HOST sent us, answered 403 Forbidden" in line


@pytest.mark.parametrize(
    ("location", "said"),
    [
        ("file:///etc/passwd", "HOST redirects to something that is no web address"),
        ("/v2/nvidia/tritonserver/manifests/24.05-py3", "HOST redirects without end"),
    ],
)
def test_redirects_are_followed_with_care(
    registry: FakeRegistry, connect: Connect, location: str, said: str
) -> None:
    registry.fault("/manifests/", status(302, Location=location), times=100)
    assert refusal(registry, connect()) == said


# -- logins -------------------------------------------------------------------------------

SECRET = Credentials("$oauthtoken", "pa:ß$(word)")
TOKEN_USER = Credentials(identity_token="IDENTITY")
USERS = {"$oauthtoken": "pa:ß$(word)"}
LOGINS: list[tuple[str, Callable[..., Any], Credentials | None]] = [
    ("nothing asked", lambda: None, None),
    ("basic", lambda: Basic("$oauthtoken", "pa:ß$(word)"), SECRET),
    ("a token for anybody", Bearer, None),
    ("no scope in the challenge", lambda: Bearer(scope=False), None),
    ("access_token", lambda: Bearer(field_name="access_token"), None),
    ("lifetime not told", lambda: Bearer(lifetime=None), None),
    ("a token for a user", lambda: Bearer(users=USERS), SECRET),
    ("identity token", lambda: Bearer(refresh="IDENTITY"), TOKEN_USER),
    (
        "identity token, realm without OAuth2",
        lambda: Bearer(users={"<token>": "IDENTITY"}, oauth=False),
        TOKEN_USER,
    ),
]


@pytest.mark.parametrize(
    ("login", "credentials"), [row[1:] for row in LOGINS], ids=[row[0] for row in LOGINS]
)
def test_logging_in(
    registry: FakeRegistry,
    connect: Connect,
    login: Callable[..., Any],
    credentials: Credentials | None,
) -> None:
    registry.login = login()
    assert contents(opened(registry, connect(find=lambda _: credentials))) == TARS
    if isinstance(registry.login, Bearer):
        assert len(registry.login.tokens) == 1, "one token does for all threads"
        request = registry.seen("/token")[-1]
        fields = request.form or request.query
        assert fields["scope"] == ["repository:nvidia/tritonserver:pull"]
        assert "service" not in fields, "nvcr.io names none"


def test_an_identity_token_is_sent_to_no_other_host(
    registry: FakeRegistry, connect: Connect
) -> None:
    other = FakeRegistry()
    registry.login = Bearer(refresh="IDENTITY")
    registry.fault("/token", redirect(other.url), times=99)
    try:
        with pytest.raises(SourceError, match=r"redirects the login to 127\.0\.0\.1:\d+"):
            opened(registry, connect(find=lambda _: TOKEN_USER))
        assert other.requests == []
    finally:
        other.close()


def test_a_token_is_renewed_before_it_ends(
    registry: FakeRegistry, connect: Connect, clock: Clock
) -> None:
    registry.login = login = Bearer(lifetime=600)
    login.clock = clock
    source = opened(registry, connect())
    clock.now += 594
    source.read([1], tiny.read_all)
    assert len(login.tokens) == 1
    clock.now += 2
    source.read([1], tiny.read_all)
    assert len(login.tokens) == 2
    assert not registry.seen("for-customers-only")


def test_a_token_that_says_no_lifetime_lasts_a_minute(
    registry: FakeRegistry, connect: Connect, clock: Clock
) -> None:
    registry.login = login = Bearer(says=None, lifetime=9999)
    source = opened(registry, connect())
    clock.now += 61
    source.read([1], tiny.read_all)
    assert len(login.tokens) == 2


def test_a_token_that_ends_during_a_download(
    registry: FakeRegistry, connect: Connect, clock: Clock
) -> None:
    """nvcr.io then names a realm that gives strangers nothing (nvidia-container-toolkit #1945)."""
    # The registry's clock runs ahead: it thinks that the token has ended, we do not.
    registry.login = login = Bearer(lifetime=10, says=600)
    skew = 0.0
    login.clock = lambda: clock.now + skew
    source = opened(registry, connect())

    def end_and_cut(request: Request, reply: Reply) -> Reply:
        nonlocal skew
        skew = 1000.0
        return cut(HALF)(request, reply)

    registry.fault(BLOBS, end_and_cut)
    assert source.read([0], tiny.read_all) == {0: ONE}
    assert len(login.tokens) == 2
    assert not registry.seen("for-customers-only")


def test_netrc_and_cookies_are_left_alone(
    registry: FakeRegistry, connect: Connect, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login thief password secret\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    registry.login = login = Bearer()
    registry.fault(".", changed(bytes, Set_Cookie="sid=1; Path=/"), times=100)
    contents(opened(registry, connect()))
    for request in registry.requests:
        assert "cookie" not in request.headers
        assert request.headers["accept-encoding"] == "identity"
        assert not request.headers.get("authorization", "").startswith("Basic")
    assert login.tokens


@pytest.mark.parametrize(
    ("base", "realm"),
    [
        ("https://r.example", "http://token.example/token"),
        ("https://r.example", "ftp://r.example/token"),
        ("https://r.example", "https://169.254.169.254/"),
        ("http://localhost:5000", "http://token.example/token"),
    ],
)
def test_a_realm_that_is_not_safe_to_ask(base: str, realm: str) -> None:
    def fetch(method: str, url: str, authorization: Any, data: Any) -> tuple[int, bytes]:
        del method, url, authorization, data
        raise AssertionError("was asked")

    authorizer = Authorizer("r", base, is_loopback, lambda _: SECRET, fetch, lambda: 0.0)
    with pytest.raises(SourceError, match="which is not safe to ask"):
        authorizer.answer(f'Bearer realm="{realm}"', ("s",), "it")


# -- refusals -----------------------------------------------------------------------------


def with_tokens(registry: FakeRegistry) -> FakeRegistry:
    registry.login = Bearer()
    return registry


NONE: Credentials | None = None
LOGIN = "`docker login HOST`"
REFUSALS: list[tuple[str, Callable[[FakeRegistry], Any], Credentials | None, str]] = [
    (
        "tag unknown, few there",
        lambda r: [r.add("nvidia/tritonserver:24.04-py3", TARS), r.manifests.pop(IMAGE)],
        NONE,
        "HOST/nvidia/tritonserver has no tag 24.05-py3; it has 24.04-py3",
    ),
    (
        "tag unknown, many there",
        lambda r: [
            *(r.add(f"nvidia/tritonserver:{y}.05-py3", [TWO]) for y in range(10, 30)),
            r.manifests.pop(IMAGE),
        ],
        NONE,
        "HOST/nvidia/tritonserver has no tag 24.05-py3; nearest: 2",
    ),
    (
        "repository unknown",
        lambda r: r.manifests.clear(),
        NONE,
        f"HOST/{IMAGE} does not exist",
    ),
    (
        "login wanted",
        lambda r: setattr(r, "login", Basic("me", "secret")),
        NONE,
        f"HOST/{IMAGE}: HOST wants a login, or has no such image: {LOGIN} first",
    ),
    (
        "login wanted for a token",
        lambda r: setattr(r, "login", Bearer(users={"me": "secret"})),
        NONE,
        f"HOST/{IMAGE}: HOST wants a login, or has no such image: {LOGIN} first",
    ),
    (
        "wrong password",
        lambda r: setattr(r, "login", Basic("me", "secret")),
        SECRET,
        f"HOST refuses the login that is stored for it: {LOGIN} again",
    ),
    (
        "wrong password for a token",
        lambda r: setattr(r, "login", Bearer(users={"me": "secret"})),
        SECRET,
        f"HOST refuses the login that is stored for it: {LOGIN} again",
    ),
    (
        "wrong identity token",
        lambda r: setattr(r, "login", Bearer(refresh="another")),
        TOKEN_USER,
        f"HOST refuses the login that is stored for it: {LOGIN} again",
    ),
    (
        "forbidden",
        lambda r: r.fault("/manifests/", error(403, "DENIED", "not for \x1b[31myou")),
        NONE,
        f"HOST does not let us read HOST/{IMAGE} (403 Forbidden: not for  [31myou): try {LOGIN}",
    ),
    (
        "500 for ever",
        lambda r: r.fault("/manifests/", error(500, "UNKNOWN", "disk on fire"), 100),
        NONE,
        f"HOST answered 500 Internal Server Error for HOST/{IMAGE}: disk on fire",
    ),
    (
        "rate limit with a window",
        lambda r: r.fault("/manifests/", status(429, RateLimit_Limit="100;w=21600")),
        SECRET,
        "HOST limits the rate of requests (429): its window is 6 h",
    ),
    (
        "token realm in trouble",
        lambda r: with_tokens(r).fault("/token", status(502), 100),
        NONE,
        "HOST answered 502 Bad Gateway for a token",
    ),
    (
        "token realm that gives none",
        lambda r: with_tokens(r).fault("/token", changed(lambda _: b"<html>")),
        NONE,
        f"HOST gives no token for HOST/{IMAGE} (status 200)",
    ),
    (
        "no JSON",
        lambda r: r.fault("/manifests/", changed(lambda _: b"<html>")),
        NONE,
        f"the manifest HOST/{IMAGE} is not JSON",
    ),
    (
        "schema 1",
        lambda r: r.put(IMAGE, "application/json", b'{"schemaVersion": 1, "fsLayers": []}'),
        NONE,
        f"HOST/{IMAGE} is stored in Docker's old schema 1, which cannot be verified",
    ),
    (
        "a type that contradicts the body",
        lambda r: r.put(IMAGE, oci.OCI_INDEX, r.manifests[IMAGE][1]),
        NONE,
        f"HOST/{IMAGE} says it is '{oci.OCI_MANIFEST}', and was sent as '{oci.OCI_INDEX}'",
    ),
    (
        "manifest and index at once",
        lambda r: r.put(IMAGE, oci.OCI_INDEX, b'{"manifests": [], "layers": []}'),
        NONE,
        f"HOST/{IMAGE} is neither a manifest nor an index",
    ),
    (
        "too large a manifest",
        lambda r: r.fault("/manifests/", changed(lambda _: b" " * (4 << 20) + b"{}")),
        NONE,
        f"the manifest HOST/{IMAGE} is larger than 4 MiB",
    ),
    (
        "wrong bytes in a layer",
        lambda r: r.fault(FIRST, changed(lambda b: b[:-9] + bytes(9))),
        NONE,
        f"layer 1 of HOST/{IMAGE} (",
    ),
    (
        "a layer cut short, and said to be whole",
        lambda r: r.fault(FIRST, truncated(HALF)),
        NONE,
        f"has {HALF} bytes at HOST, expected {SIZE}",
    ),
    (
        "a layer that goes on",
        lambda r: r.fault(FIRST, chunked(lambda b: b + b"x")),
        NONE,
        f"is longer than its {SIZE} bytes",
    ),
    (
        "a layer that is not there",
        lambda r: r.blobs.pop(oci.sha256(tiny.pack(TWO, "gzip"))),
        NONE,
        "is not in HOST: unknown to the registry",
    ),
    (
        "slow for ever",
        lambda r: r.fault("/manifests/", silent(1.2), 100),
        NONE,
        "HOST is too slow: nothing came for 1 s",
    ),
    (
        "diff_ids fewer than layers",
        lambda r: r.add(IMAGE, TARS, rootfs={"diff_ids": [oci.sha256(ONE)]}),
        NONE,
        f"HOST/{IMAGE} has 2 layers in its manifest, but 1 diff_ids in its config",
    ),
    (
        "a wrong diff_id",
        lambda r: r.add(IMAGE, TARS, rootfs={"diff_ids": [oci.sha256(TWO), oci.sha256(TWO)]}),
        NONE,
        f"uncompressed, has digest {oci.sha256(ONE)}, expected {oci.sha256(TWO)}",
    ),
]


@pytest.mark.parametrize(
    ("arrange", "credentials", "said"), [row[1:] for row in REFUSALS], ids=[r[0] for r in REFUSALS]
)
def test_one_clear_line(
    registry: FakeRegistry,
    connect: Connect,
    arrange: Callable[[FakeRegistry], Any],
    credentials: Credentials | None,
    said: str,
) -> None:
    arrange(registry)
    line = refusal(registry, connect(find=lambda _: credentials, policy=Policy(tries=2)))
    assert said in line
    assert not any(secret in line for secret in ("pa:", "IDENTITY", "TOKEN-", "\x1b"))


def test_nobody_answers(connect: Connect) -> None:
    gone = FakeRegistry()
    gone.close()
    assert refusal(gone, connect()) == "HOST refuses connections: is a registry running there?"


def test_a_name_that_does_not_resolve(connect: Connect, clock: Clock) -> None:
    with pytest.raises(SourceError, match=r"^registry\.invalid: no such host; is the name right"):
        connect().get_manifest(ImageName.parse("registry.invalid/a:1"))
    assert not clock.slept, "a misspelt name is told of at once"


def test_offline(registry: FakeRegistry, connect: Connect) -> None:
    line = refusal(registry, connect(offline=True))
    assert line == f"HOST/{IMAGE} would have to be read from HOST, but --offline is set"
    assert not registry.requests


# -- mirrors ------------------------------------------------------------------------------


def test_mirrors_are_asked_in_order(
    registry: FakeRegistry, storage: FakeRegistry, connect: Connect
) -> None:
    for name in [*storage.manifests]:
        storage.manifests[name.replace("nvidia/", "ngc/nvidia/")] = storage.manifests.pop(name)
    registry.fault("^/v2/empty/", status(404), times=100)
    gone = FakeRegistry()
    gone.close()
    warnings: list[str] = []
    mirrors = [
        Mirror.parse(f"{registry.host}/other={gone.host}/x"),  # not for this image
        Mirror.parse(f"{registry.host}={gone.host}"),  # not running
        Mirror.parse(f"{registry.host}/nvidia={registry.host}/empty"),  # has not got it
        Mirror.parse(f"{registry.host}={storage.host}/ngc"),
    ]
    client = connect(mirrors=mirrors, warn=warnings.append)
    assert contents(opened(registry, client)) == TARS
    assert {r.path.split("/")[2] for r in registry.requests} == {"empty"}
    assert warnings == [
        f"mirror {gone.host} is passed over: "
        f"{gone.host} refuses connections: is a registry running there?"
    ]
    # A mirror that lost a layer is no reason to fail either.
    storage.blobs.pop(oci.sha256(tiny.pack(ONE, "gzip")))
    assert contents(opened(registry, client)) == TARS
    assert registry.seen("^/v2/nvidia/tritonserver/blobs/")


def test_a_mirror_that_dies_in_the_middle(
    registry: FakeRegistry, storage: FakeRegistry, connect: Connect
) -> None:
    client = connect(mirrors=[Mirror.parse(f"{registry.host}={storage.host}")])
    source = opened(registry, client)
    storage.fault(BLOBS, cut(HALF))
    storage.fault(BLOBS, status(500), times=100)
    assert source.read([0], tiny.read_all) == {0: ONE}
    assert [r.headers.get("range") for r in registry.seen(BLOBS)] == [f"bytes={HALF}-{SIZE - 1}"]


@pytest.mark.parametrize("path", ["/manifests/", BLOBS])
def test_a_mirror_that_is_out_of_order_is_not_waited_for(
    registry: FakeRegistry, storage: FakeRegistry, connect: Connect, clock: Clock, path: str
) -> None:
    client = connect(mirrors=[Mirror.parse(f"{registry.host}={storage.host}")])
    opened(registry, client)
    storage.fault(path, status(500), times=100)
    assert contents(opened(registry, client)) == TARS
    assert not clock.slept


@pytest.mark.parametrize("wrong", [b"wrong", None], ids=["length", "bytes"])
def test_wrong_content_is_the_mirrors_that_gave_it(
    registry: FakeRegistry, storage: FakeRegistry, connect: Connect, wrong: bytes | None
) -> None:
    client = connect(mirrors=[Mirror.parse(f"{registry.host}={storage.host}")])
    source = opened(registry, client)
    for digest, blob in storage.blobs.items():
        storage.blobs[digest] = wrong or bytes(len(blob))
    with pytest.raises(VerificationError, match=re.escape(storage.host)):
        contents(source)


def test_when_all_fail_all_are_named(registry: FakeRegistry, connect: Connect) -> None:
    gone = FakeRegistry()
    gone.close()
    client = connect(mirrors=[Mirror.parse(f"{registry.host}={gone.host}")])
    line = refusal(registry, client, "nvidia/nothing:1")
    assert line == (
        f"HOST/nvidia/nothing:1 does not exist "
        f"(mirrors: {gone.host} refuses connections: is a registry running there?)"
    )


@pytest.mark.parametrize(
    "text", ["nvcr.io", "=x:5", "nvcr.io=", "nvcr.io=local/ngc", "nvcr.io=h:5/UP", "a.io/x:t=b.io"]
)
def test_a_mirror_that_is_none(text: str) -> None:
    with pytest.raises(AssemblerError) as caught:
        Mirror.parse(text)
    assert caught.value.exit_status == 2


def test_docker_hubs_short_names_have_mirrors_too() -> None:
    mirror = Mirror.parse("docker.io=registry.local:5000/hub")
    assert str(mirror.apply(ImageName.parse("ubuntu:22.04"))) == (
        "registry.local:5000/hub/library/ubuntu:22.04"
    )
    assert mirror.apply(ImageName.parse("nvcr.io/a")) is None


def test_foreign_layers_come_from_their_makers(
    registry: FakeRegistry, storage: FakeRegistry, connect: Connect
) -> None:
    blob = tiny.pack(ONE, "gzip")
    digest = oci.sha256(blob)
    url = f"{storage.url}/v2/x/blobs/{digest}"
    document = json.loads(registry.manifests[IMAGE][1])
    document["layers"][0] |= {"urls": ["http://elsewhere.example/x", url]}
    registry.put(IMAGE, oci.OCI_MANIFEST, json.dumps(document).encode())
    del registry.blobs[digest]
    registry.login = Bearer()
    assert contents(opened(registry, connect())) == TARS
    assert "authorization" not in storage.requests[-1].headers


# -- one fails, all stop ------------------------------------------------------------------


def test_one_failure_ends_the_others_at_once(registry: FakeRegistry, connect: Connect) -> None:
    client = connect(connections=Connections(5, 30), sleep=None)
    source = opened(registry, client)
    registry.fault(f"{BLOBS}{source.manifest.layers[0].digest}", silent(3))
    registry.fault(f"{BLOBS}{source.manifest.layers[1].digest}", status(403))
    started = time.monotonic()
    with pytest.raises(SourceError, match="403 Forbidden"):
        source.read([0, 1], tiny.read_all)
    assert time.monotonic() - started < 1.5
    assert not [t for t in threading.enumerate() if t.name.startswith("layer")]


def test_a_visitor_that_fails(registry: FakeRegistry, connect: Connect) -> None:
    def visit(_: BinaryIO) -> None:
        raise SourceError("not what I was looking for")

    with pytest.raises(SourceError, match="not what I was looking for"):
        opened(registry, connect()).read([0, 1], visit)


def test_bytes_that_nobody_looked_at_are_verified_too(
    registry: FakeRegistry, connect: Connect
) -> None:
    registry.fault(BLOBS, changed(lambda b: b[:-1] + b"!"), after=1)
    with pytest.raises(SourceError, match="layer 1"):
        opened(registry, connect()).read([0], lambda stream: stream.read(10))


def test_a_failed_copy_leaves_no_part(
    registry: FakeRegistry, connect: Connect, tmp_path: Path
) -> None:
    registry.fault(BLOBS, changed(lambda b: b[:-9] + bytes(9)), after=1)
    source = opened(registry, connect(), workers=1)
    with pytest.raises(SourceError, match="layer 1"):
        source.copy_layers(tmp_path)
    left = {path.name for path in (tmp_path / "sha256").iterdir()}
    assert left <= {source.manifest.layers[1].digest[7:]}, "no part, and only what was verified"
    assert len(source.copy_layers(tmp_path)) == 2


def test_layers_start_in_the_order_given(registry: FakeRegistry, connect: Connect) -> None:
    source = opened(registry, connect(), workers=1)
    registry.requests.clear()
    source.read([1, 0], tiny.read_all)
    assert [r.path.rpartition("/")[2] for r in registry.seen(BLOBS)] == [
        layer.digest for layer in reversed(source.manifest.layers)
    ]


def test_ctrl_c_ends_a_process_that_waits_for_bytes(
    registry: FakeRegistry, connect: Connect
) -> None:
    source = opened(registry, connect())
    for layer in source.manifest.layers:
        registry.fault(layer.digest, silent(8))
    script = f"""
        import signal
        from assembler.oci import Platform
        from assembler.reference import ImageName
        from assembler.registries.client import RegistryClient
        from assembler.sources.registry import RegistrySource
        name = ImageName.parse("{registry.host}/{IMAGE}")
        source = RegistrySource(name, Platform("linux", "amd64"), RegistryClient())
        # A job in the background of a shell has it ignored.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        print("reading", flush=True)
        try:
            source.read([0, 1], lambda stream: stream.read())
        except KeyboardInterrupt:
            print("stopped")
        """
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
        env=os.environ | {"PYTHONPATH": "."},
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "reading\n"
        time.sleep(0.5)
        started = time.monotonic()
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=20)[0] == "stopped\n"
    assert time.monotonic() - started < 3
