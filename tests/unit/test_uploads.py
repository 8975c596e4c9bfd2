"""Into a registry, however badly it behaves; and what is said when it will not have it."""

from __future__ import annotations

import hashlib
import io
import re
import threading
from collections.abc import Callable, Iterator

import pytest

from assembler import oci
from assembler.destinations import Artifact
from assembler.errors import AssemblerError
from assembler.reference import ImageName
from assembler.registries import referrers, sessions
from assembler.registries.client import RegistryClient
from assembler.registries.connections import Connections, RegistryError
from assembler.registries.credentials import Credentials
from assembler.registries.download import Cancelled
from assembler.registries.uploads import MOUNTED, SENT, THERE, Uploader
from tests.unit.fake_registry import (
    Change,
    FakeRegistry,
    Reply,
    Request,
    cut,
    error,
    redirect,
    status,
)
from tests.unit.fake_uploads import PushBearer, WritableRegistry
from tests.unit.test_registry import Clock

BIG = b"".join(hashlib.sha256(b"%d" % n).digest() for n in range(40_000))  # 1.28 MB
SMALL = b"small"
UPLOADS = "/blobs/uploads/"


@pytest.fixture
def registry() -> Iterator[WritableRegistry]:
    made = WritableRegistry()
    yield made
    made.close()


@pytest.fixture(autouse=True)
def chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks of 400 kB, so that BIG has four."""
    monkeypatch.setattr(sessions, "CHUNK", 400_000)


def uploader(
    clock: Clock | None = None, login: Credentials | None = None, **more: object
) -> Uploader:
    clock = clock or Clock()
    client = RegistryClient(
        find=lambda _: login, sleep=clock.sleep, clock=clock, connections=Connections(1, 1)
    )
    return Uploader(client, **more)  # type: ignore[arg-type]


def name(registry: FakeRegistry, repository: str = "team/triton") -> ImageName:
    return ImageName.parse(f"{registry.host}/{repository}:1")


def described(data: bytes) -> oci.Descriptor:
    return oci.Descriptor("x", oci.sha256(data), len(data))


def send(
    registry: WritableRegistry, data: bytes = BIG, by: Uploader | None = None, **more: object
) -> str:
    opened = lambda: io.BytesIO(data)  # noqa: E731
    return (by or uploader()).blob(name(registry), described(data), opened, **more)  # type: ignore[arg-type]


def there(registry: WritableRegistry, data: bytes = BIG, repository: str = "team/triton") -> bool:
    digest = oci.sha256(data)
    return registry.blobs.get(digest) == data and digest in registry.owned[repository]


def methods(registry: FakeRegistry) -> list[str]:
    return [each.method for each in registry.requests]


# -- blobs that arrive -----------------------------------------------------------------------


@pytest.mark.parametrize("data", [b"", SMALL, BIG[:400_000]])
def test_a_small_blob_goes_in_one_piece(registry: WritableRegistry, data: bytes) -> None:
    assert send(registry, data) == SENT
    assert there(registry, data)
    assert methods(registry) == ["HEAD", "POST", "PUT"]


def test_a_large_one_goes_in_chunks(registry: WritableRegistry) -> None:
    counted: list[int] = []
    assert send(registry, by=uploader(on_bytes=counted.append)) == SENT
    assert there(registry)
    assert methods(registry) == ["HEAD", "POST", *4 * ["PATCH"], "PUT"]
    assert sum(counted) == len(BIG)


def test_the_registry_says_how_small_a_chunk_may_be(registry: WritableRegistry) -> None:
    registry.minimum = 700_000
    send(registry)
    sizes = [len(each.body) for each in registry.requests if each.method == "PATCH"]
    assert sizes == [700_000, 580_000]


def test_a_registry_that_wants_huge_chunks_gets_a_stream(registry: WritableRegistry) -> None:
    registry.minimum = 10**12
    data = bytes(33 << 20)
    send(registry, data)
    assert there(registry, data)
    assert methods(registry) == ["HEAD", "POST", "PUT"]


def test_what_is_there_is_not_sent(registry: WritableRegistry) -> None:
    send(registry)
    registry.requests.clear()
    assert send(registry) == THERE
    assert methods(registry) == ["HEAD"]


def test_a_blob_is_mounted_from_where_it_is(registry: WritableRegistry) -> None:
    registry.owned["base/ubuntu"] = {oci.sha256(BIG)}
    registry.blobs[oci.sha256(BIG)] = BIG
    assert send(registry, mount_from=["not/there", "base/ubuntu"]) == MOUNTED
    assert there(registry)
    assert not any(each.body for each in registry.requests)


@pytest.mark.parametrize(
    "refuse",
    [
        None,
        error(403, "DENIED", "not yours"),
        error(405, "UNSUPPORTED", "no mounts"),
        status(500),
        status(404),
    ],
)
def test_a_registry_that_refuses_mounts_gets_the_bytes(
    registry: WritableRegistry, refuse: Change | None
) -> None:
    registry.owned["base/ubuntu"] = {oci.sha256(BIG)}
    registry.blobs[oci.sha256(BIG)] = BIG
    registry.mounts = False
    if refuse:
        registry.fault(UPLOADS, refuse, method="POST")
    assert send(registry, mount_from=["base/ubuntu"]) == SENT
    assert there(registry)


@pytest.mark.parametrize("relative", [True, False])
def test_locations_keep_their_own_query(registry: WritableRegistry, relative: bool) -> None:
    registry.relative = relative
    send(registry)
    [commit] = [each for each in registry.requests if each.method == "PUT"]
    assert set(commit.query) == {"state", "digest"}


def test_another_host_takes_the_upload_and_gets_no_login(registry: WritableRegistry) -> None:
    storage = WritableRegistry()
    try:
        registry.elsewhere, registry.login = storage, PushBearer()
        send(registry)
        assert there(registry)
        assert methods(storage) == [*4 * ["PATCH"], "PUT"]
        assert not any("authorization" in each.headers for each in storage.requests)
    finally:
        storage.close()


# -- what goes wrong on the way --------------------------------------------------------------


@pytest.mark.parametrize("method", ["HEAD", "POST", "PATCH", "PUT"])
@pytest.mark.parametrize("code", [500, 502, 503])
def test_a_server_error_is_waited_out(registry: WritableRegistry, method: str, code: int) -> None:
    after = 1 if method == "PATCH" else 0
    registry.fault("/blobs/", status(code), times=2, after=after, method=method)
    clock = Clock()
    assert send(registry, by=uploader(clock)) == SENT
    assert there(registry)
    # Whether it is there, a registry need not be able to say.
    assert len(clock.slept) == (0 if (method, code) == ("HEAD", 500) else 2)
    if method != "PUT":
        sent = sum(len(each.body) for each in registry.requests if each.method == "PATCH")
        assert sent <= len(BIG) + 2 * 400_000, "no more than the chunk in question is sent again"


def test_a_chunk_of_which_half_arrived_is_completed(registry: WritableRegistry) -> None:
    def half(request: Request, _: Reply) -> Reply:
        [upload] = registry.uploads.values()
        upload.data += request.body[:150_000]
        return Reply(502)

    registry.fault(UPLOADS, half, after=1, method="PATCH")
    send(registry)
    assert there(registry)
    sizes = [len(each.body) for each in registry.requests if each.method == "PATCH"]
    assert sizes == [400_000, 400_000, 250_000, 400_000, 80_000]


def test_416_asks_the_session_and_goes_on(registry: WritableRegistry) -> None:
    def twice(request: Request, _: Reply) -> Reply:
        [upload] = registry.uploads.values()
        upload.data += request.body  # and the answer says otherwise
        return Reply(416)

    registry.fault(UPLOADS, twice, after=1, method="PATCH")
    send(registry)
    assert there(registry)
    assert methods(registry).count("GET") == 1
    assert methods(registry).count("PATCH") == 4


@pytest.mark.parametrize("method", ["PATCH", "PUT"])
def test_a_lost_session_is_begun_again(registry: WritableRegistry, method: str) -> None:
    def lose(_: Request, __: Reply) -> Reply:
        registry.uploads.clear()
        return Reply(404)

    registry.fault(UPLOADS, lose, after=2 if method == "PATCH" else 0, method=method)
    send(registry)
    assert there(registry)
    assert methods(registry).count("POST") == 2


def test_a_session_that_is_always_lost_is_given_up(registry: WritableRegistry) -> None:
    registry.fault(UPLOADS, status(404), times=99, after=1, method="PATCH")
    registry.fault(UPLOADS, status(404), times=99, method="PUT")
    with pytest.raises(RegistryError, match="the upload is lost"):
        send(registry)
    assert methods(registry).count("POST") <= 6


def test_a_registry_that_takes_no_more_is_given_up(registry: WritableRegistry) -> None:
    def same(_: Request, __: Reply) -> Reply:
        return Reply(202, {"Range": "0-399999"})

    registry.fault(UPLOADS, same, times=99, after=1, method="PATCH")
    registry.fault(UPLOADS, status(500), times=99, method="PUT")
    with pytest.raises(RegistryError):
        send(registry)
    assert len(registry.requests) < 60


def test_bytes_that_were_damaged_on_their_way_are_sent_again(registry: WritableRegistry) -> None:
    def damage(_: Request, __: Reply) -> Reply:
        [upload] = registry.uploads.values()
        upload.data += bytes(400_000)
        upload.step += 1
        return Reply(202, registry._place("u0"))

    registry.fault(UPLOADS, damage, method="PATCH")
    send(registry)
    assert there(registry)


def test_a_commit_whose_answer_was_lost_is_a_commit(registry: WritableRegistry) -> None:
    def lose(request: Request, _: Reply) -> Reply:
        registry._content(request)
        return Reply(504)

    registry.fault(UPLOADS, lose, method="PUT")
    send(registry)
    assert there(registry)
    assert methods(registry).count("PUT") == 1


def test_a_registry_without_chunks_gets_all_at_once(registry: WritableRegistry) -> None:
    registry.chunks = False
    send(registry)
    assert there(registry)
    assert [len(e.body) for e in registry.requests if e.method == "PUT"] == [len(BIG)]


def test_a_proxy_with_a_limit_gets_smaller_chunks(registry: WritableRegistry) -> None:
    def limit(request: Request, _: Reply) -> Reply:
        assert len(request.body) > 100_000
        return Reply(413)

    registry.fault(UPLOADS, limit, method="PATCH")
    with pytest.raises(RegistryError, match="too large"):
        send(registry)  # 25 kB is less than any proxy has


def test_smaller_chunks(registry: WritableRegistry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions, "CHUNK", 1_200_000)
    registry.fault(UPLOADS, status(413), method="PATCH")
    send(registry)
    assert there(registry)
    assert max(len(e.body) for e in registry.requests[3:]) == 75_000


def test_a_token_that_ends_in_mid_upload_is_renewed(registry: WritableRegistry) -> None:
    clock = Clock()
    login = PushBearer(lifetime=60)
    login.clock, registry.login = clock, login
    by = uploader(clock, on_bytes=lambda _: clock.sleep(40))
    send(registry, by=by)
    assert there(registry)
    assert len(login.tokens) >= 3


def test_a_token_that_was_revoked_before_the_commit_costs_no_second_upload(
    registry: WritableRegistry,
) -> None:
    login = PushBearer()
    registry.login = login

    def revoke(_: Request, reply: Reply) -> Reply:
        login.tokens.clear()
        return reply

    chunks_sent: list[int] = []

    def count(number: int) -> None:
        chunks_sent.append(number)
        if len(chunks_sent) == 4:
            login.tokens.clear()

    send(registry, by=uploader(on_bytes=count))
    assert there(registry)
    assert sum(e.method == "PATCH" and "authorization" in e.headers for e in registry.requests) == 4


def test_redirects_are_followed_with_the_body(registry: WritableRegistry) -> None:
    registry.fault(UPLOADS, redirect(registry.url), method="POST")
    send(registry, SMALL)
    assert there(registry, SMALL)


def test_giving_up_ends_at_once(registry: WritableRegistry) -> None:
    given_up = threading.Event()
    by = uploader(cancelled=given_up, on_bytes=lambda _: given_up.set())
    with pytest.raises(Cancelled):
        send(registry, by=by)
    assert methods(registry).count("PATCH") == 1


def test_a_source_that_turns_out_wrong_is_never_committed(registry: WritableRegistry) -> None:
    wrong = BIG[:-1] + b"?"
    with pytest.raises(AssemblerError):
        uploader().blob(name(registry), described(BIG), lambda: io.BytesIO(wrong))
    assert registry.blobs == {}


# -- refusals --------------------------------------------------------------------------------

NO_SPACE = (
    b'{"errors":[{"code":"UNKNOWN","message":"unknown error","detail":'
    b'{"DriverName":"filesystem","Enclosed":{"Op":"write","Path":"/x","Err":28}}}]}'
)


@pytest.mark.parametrize("method", ["POST", "PATCH", "PUT"])
@pytest.mark.parametrize(
    ("change", "line"),
    [
        (
            error(403, "DENIED", "go away"),
            r"HOST does not let us write \S+ \S+ \(403 Forbidden: go away\): "
            r"`docker login HOST` as somebody who may push there",
        ),
        (
            error(405, "UNSUPPORTED", "read-only mode"),
            r"HOST is read-only, so it does not take .* \(405: read-only mode\)",
        ),
        (status(413), r"HOST finds .* too large \(413\): raise the limit of the proxy"),
        (error(429, "TOOMANYREQUESTS", "slow", Retry_After="9000"), r"limits the rate .* 2 h"),
        (status(500), r"HOST answered 500 Internal Server Error for blob"),
        (status(507), r"HOST has no room for blob \S+ \(507\): make room there"),
        (status(500, NO_SPACE), r"HOST has no room for blob \S+ \(500: unknown error\)"),
    ],
    ids=["403", "405", "413", "429", "500", "507", "full"],
)
def test_a_refusal_is_one_line(
    registry: WritableRegistry, method: str, change: Change, line: str
) -> None:
    registry.fault(UPLOADS, change, times=99, method=method)
    if "read-only" in line and method == "PATCH":
        # By itself, 405 for a chunk means that there are no chunks.
        registry.fault(UPLOADS, change, times=99, method="PUT")
    with pytest.raises(RegistryError) as caught:
        send(registry)
    text = str(caught.value).replace(registry.host, "HOST")
    assert re.search(line, text), text
    assert "\n" not in text
    assert not registry.blobs
    assert not registry.uploads, "nothing half sent is left there"


def test_no_such_repository(registry: WritableRegistry) -> None:
    registry.fault(UPLOADS, error(404, "NAME_UNKNOWN", "no such project"), 99, method="POST")
    with pytest.raises(RegistryError, match=r"no place for .*: no such project\): create the"):
        send(registry)


@pytest.mark.parametrize("login", [None, Credentials("me", "secret")])
def test_no_right_to_push(registry: WritableRegistry, login: Credentials | None) -> None:
    registry.login = PushBearer(may_push=False)
    whose = "the login stored for it" if login else "us"
    with pytest.raises(RegistryError, match=f"does not let {whose} write .* as somebody who may"):
        send(registry, by=uploader(login=login))


# -- manifests -------------------------------------------------------------------------------


def manifest(
    registry: WritableRegistry, config: bytes = b"{}", by: Uploader | None = None
) -> bytes:
    send(registry, config, by)
    return oci.canonical(
        {
            "schemaVersion": 2,
            "mediaType": oci.OCI_MANIFEST,
            "config": oci.Descriptor(oci.OCI_CONFIG, oci.sha256(config), len(config)).json(),
            "layers": [],
        }
    )


def test_a_manifest_goes_under_tag_and_digest(registry: WritableRegistry) -> None:
    raw = manifest(registry)
    for reference in ("1", oci.sha256(raw)):
        uploader().manifest(name(registry), reference, raw, oci.OCI_MANIFEST)
    assert registry.manifests["team/triton:1"] == (oci.OCI_MANIFEST, raw)


def test_a_tag_that_is_right_is_let_alone(registry: WritableRegistry) -> None:
    raw = manifest(registry)
    uploader().manifest(name(registry), "1", raw, oci.OCI_MANIFEST)
    registry.fault("/manifests/", error(409, "DENIED", "immutable"), 99, method="PUT")
    uploader().manifest(name(registry), "1", raw, oci.OCI_MANIFEST)


@pytest.mark.parametrize(
    "change",
    [
        error(409, "TAG_EXISTS", ""),
        error(412, "PRECONDITION", "matched an immutable rule"),
        error(400, "TAG_INVALID", "cannot be overwritten because the repository is immutable"),
        error(403, "DENIED", "the tag already exists"),
    ],
    ids=["409", "412", "400", "403"],
)
def test_an_immutable_tag_is_named(registry: WritableRegistry, change: Change) -> None:
    raw = manifest(registry)
    registry.fault("/manifests/1", change, 99, method="PUT")
    with pytest.raises(RegistryError) as caught:
        uploader().manifest(name(registry), "1", raw, oci.OCI_MANIFEST)
    assert str(caught.value).startswith(f"{registry.host}/team/triton:1 exists already")
    assert str(caught.value).endswith("choose another tag")


def test_a_registry_that_rewrites_manifests_is_found_out(registry: WritableRegistry) -> None:
    raw = manifest(registry)
    lie: Callable[[Request, Reply], Reply] = lambda *_: Reply(  # noqa: E731
        201, {"Docker-Content-Digest": oci.sha256(b"other")}
    )
    registry.fault("/manifests/", lie, 99, method="PUT")
    with pytest.raises(RegistryError, match=r"changed .*: it has digest"):
        uploader().manifest(name(registry), "1", raw, oci.OCI_MANIFEST)


# -- referrers -------------------------------------------------------------------------------

RECORD = Artifact("application/x.record", "application/json", b'{"files": {}}')


@pytest.mark.parametrize("lists", [True, False], ids=["API", "tags"])
def test_an_artifact_is_found_by_what_it_refers_to(registry: WritableRegistry, lists: bool) -> None:
    registry.lists = lists
    raw = manifest(registry)
    by = uploader()
    by.manifest(name(registry), oci.sha256(raw), raw, oci.OCI_MANIFEST)
    subject = oci.Descriptor(oci.OCI_MANIFEST, oci.sha256(raw), len(raw))
    other = Artifact("application/x.sbom", "application/json", b"{}")
    for artifact in (RECORD, other, RECORD):
        by.artifact(name(registry), subject, artifact)
    client = RegistryClient(find=lambda _: None)
    everything = referrers.listed(client, name(registry), subject.digest)
    assert {each.artifact_type for each in everything} == {
        "application/x.record",
        "application/x.sbom",
    }
    assert len(everything) == 2, "none is there twice"
    [found] = referrers.listed(client, name(registry), subject.digest, "application/x.record")
    document = oci.parse_object(
        client.get_manifest(name(registry), found.descriptor.digest).raw, ""
    )
    [layer] = document["layers"]
    content = client.get_blob(name(registry), oci.Descriptor.parse(layer, ""), "the record")
    assert content == RECORD.data
    assert (f"team/triton:{referrers.tag(subject.digest)}" in registry.manifests) is not lists


def test_nothing_refers_to_a_lonely_image(registry: WritableRegistry) -> None:
    for lists in (True, False):
        registry.lists = lists
        client = RegistryClient(find=lambda _: None)
        assert referrers.listed(client, name(registry), oci.sha256(b"x")) == []


def test_a_list_of_several_pages(registry: WritableRegistry) -> None:
    digest = oci.sha256(b"x")
    entry = referrers.Referrer(described(b"y"), "application/x.record").json()
    page = oci.canonical({"schemaVersion": 2, "mediaType": oci.OCI_INDEX, "manifests": [entry]})
    path = f"/v2/team/triton/referrers/{digest}"
    registry.fault(
        path,
        lambda *_: Reply(
            200, {"Content-Type": oci.OCI_INDEX, "Link": f'<{path}?last=1>; rel="next"'}, page
        ),
    )
    registry.fault(path, lambda *_: Reply(200, {"Content-Type": oci.OCI_INDEX}, page))
    client = RegistryClient(find=lambda _: None)
    assert len(referrers.listed(client, name(registry), digest)) == 2


def test_a_page_that_breaks_off_is_no_list(registry: WritableRegistry) -> None:
    registry.fault("/referrers/", cut(10), 9)
    client = RegistryClient(find=lambda _: None)
    with pytest.raises(AssemblerError):
        referrers.listed(client, name(registry), oci.sha256(b"x"))
