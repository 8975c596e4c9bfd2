"""The same against Debian's `docker-registry` (distribution 2.8): chunks, breaks, refusals."""

from __future__ import annotations

import io
import random
import shutil
import socket
import struct
import subprocess
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from assembler import oci
from assembler.destinations import Artifact
from assembler.reference import ImageName
from assembler.registries import referrers
from assembler.registries.client import RegistryClient
from assembler.registries.connections import RegistryError
from assembler.registries.credentials import Credentials
from assembler.registries.retries import Policy
from assembler.registries.uploads import MOUNTED, SENT, THERE, Uploader
from tests.standin import services
from tests.unit.test_registry_real import BCRYPT, LOGIN

pytestmark = pytest.mark.skipif(
    shutil.which("docker-registry") is None, reason="docker-registry is not installed"
)

BIG = random.Random(2).randbytes(20 << 20)
BLOB = oci.Descriptor("x", oci.sha256(BIG), len(BIG))


@contextmanager
def serving(folder: Path, more: str = "", storage: str = "") -> Iterator[str]:
    """A docker-registry with more in its configuration."""
    port = services.free_port()
    config = folder / f"{port}.yml"
    config.write_text(
        "version: 0.1\nlog: {level: error}\n"
        f"storage: {{filesystem: {{rootdirectory: {folder / 'data'}}}{storage}}}\n"
        f'http: {{addr: "127.0.0.1:{port}"}}\n{more}'
    )
    process = subprocess.Popen(
        ["docker-registry", "serve", str(config)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        for _ in range(100):
            with suppress(ConnectionRefusedError), socket.create_connection(("127.0.0.1", port)):
                break
            threading.Event().wait(0.05)
        yield f"127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(20)


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with serving(tmp_path_factory.mktemp("registry")) as found:
        yield found


def uploader(login: Credentials | None = None) -> Uploader:
    policy = Policy(first=0.01, cap=0.02)
    return Uploader(RegistryClient(find=lambda _: login, policy=policy))


def send(by: Uploader, host: str, repository: str, **more: object) -> str:
    name = ImageName.parse(f"{host}/{repository}:1")
    return by.blob(name, BLOB, lambda: io.BytesIO(BIG), **more)  # type: ignore[arg-type]


def content(host: str, repository: str) -> bytes:
    with urllib.request.urlopen(f"http://{host}/v2/{repository}/blobs/{BLOB.digest}") as answer:
        raw: bytes = answer.read()
    return raw


def test_chunks_mounts_and_what_is_there(host: str) -> None:
    by = uploader()
    assert send(by, host, "a") == SENT
    assert content(host, "a") == BIG
    assert send(by, host, "a") == THERE
    assert send(by, host, "b", mount_from=["none", "a"]) == MOUNTED
    assert content(host, "b") == BIG


@contextmanager
def cutting(host: str, after: int) -> Iterator[str]:
    """A proxy before `host` that breaks the first connection which sends more than `after`."""
    target = ("127.0.0.1", int(host.rpartition(":")[2]))
    left, ended = [1], threading.Event()
    listener = socket.create_server(("127.0.0.1", 0))
    threads: list[threading.Thread] = []
    sockets: list[socket.socket] = []

    def pump(source: socket.socket, sink: socket.socket, limit: int) -> None:
        count = 0
        with suppress(OSError):
            while data := source.recv(65536):
                count += len(data)
                if count > limit and left[0] and not ended.is_set():
                    left[0] = 0
                    # With a reset, or the client would go on sending to nobody.
                    source.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    source.close()
                    break
                sink.sendall(data)
        for each in (source, sink):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def accept() -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            server = socket.create_connection(target)
            sockets.extend((client, server))
            for pair in ((client, server, after), (server, client, 1 << 40)):
                threads.append(threading.Thread(target=pump, args=pair))
                threads[-1].start()

    accepting = threading.Thread(target=accept)
    accepting.start()
    try:
        yield f"127.0.0.1:{listener.getsockname()[1]}"
        assert not left[0], "it was cut"
    finally:
        ended.set()
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        for each in sockets:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        for thread in (accepting, *threads):
            thread.join()
        for each in sockets:
            each.close()


@pytest.mark.parametrize("megabytes", [3, 11, 19])
def test_a_connection_that_breaks_costs_no_blob(host: str, megabytes: int) -> None:
    by = uploader()
    repository = f"cut{megabytes}"
    with cutting(host, megabytes << 20) as proxy:
        assert send(by, proxy, repository) == SENT
        by._client.close()
    assert content(host, repository) == BIG


def test_an_artifact_is_listed_by_its_tag(host: str) -> None:
    name, by = ImageName.parse(f"{host}/c:1"), uploader()
    config = b'{"os": "linux", "architecture": "amd64"}'
    by.blob(name, oci.Descriptor("x", oci.sha256(config), len(config)), lambda: io.BytesIO(config))
    described = oci.Descriptor(oci.OCI_CONFIG, oci.sha256(config), len(config))
    raw = oci.canonical(
        {
            "schemaVersion": 2,
            "mediaType": oci.OCI_MANIFEST,
            "config": described.json(),
            "layers": [],
        }
    )
    by.manifest(name, "1", raw, oci.OCI_MANIFEST)
    subject = oci.Descriptor(oci.OCI_MANIFEST, oci.sha256(raw), len(raw))
    record = Artifact("application/x.record", "application/json", b'{"files": {}}')
    digests = {by.artifact(name, subject, record) for _ in range(2)}
    found = referrers.listed(RegistryClient(), name, subject.digest)
    assert [each.descriptor.digest for each in found] == list(digests)


def test_a_registry_that_is_read_only(tmp_path: Path) -> None:
    read_only = ", maintenance: {readonly: {enabled: true}}"
    with serving(tmp_path, storage=read_only) as host:
        with pytest.raises(RegistryError) as caught:
            send(uploader(), host, "a")
        assert f"{host} is read-only, so it does not take" in str(caught.value)
        assert "\n" not in str(caught.value)


def test_a_registry_that_wants_a_login(tmp_path: Path) -> None:
    (tmp_path / "users").write_text(f"{LOGIN[0]}:{BCRYPT}\n")
    auth = f"auth: {{htpasswd: {{realm: x, path: {tmp_path / 'users'}}}}}\n"
    with serving(tmp_path, auth) as host:
        for login in (None, Credentials("me", "wrong")):
            with pytest.raises(RegistryError, match=r"401 Unauthorized.*docker login"):
                send(uploader(login), host, "a")
        assert send(uploader(Credentials(*LOGIN)), host, "a") == SENT
