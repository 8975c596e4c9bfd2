"""Run an image as a server for the time of a ``with`` block."""

from __future__ import annotations

import io
import re
import tarfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import docker
import requests
from docker.models.containers import Container

from tests.serving.client import Client

PORTS = (8000, 8001, 8002)
READY_SECONDS = 120
STOP_SECONDS = 60
DEFAULT_ARGS = ("--model-control-mode=explicit", "--load-model=*")


class ServerError(Exception):
    """The server ended, or did not become ready; the message ends with its last log lines."""


@dataclass(frozen=True)
class Stopped:
    """How a server ended after SIGTERM."""

    exit_code: int
    seconds: float


@dataclass
class Server:
    """A running container and the client to it."""

    container: Container
    client: Client
    ready_seconds: float = 0.0

    def logs(self, lines: int | None = None) -> str:
        """What the server wrote so far, on both streams."""
        text: bytes = self.container.logs(tail="all" if lines is None else lines)
        return text.decode("utf-8", "replace")

    def complaint(self) -> str:
        """What a failure report should quote: the lines logged as errors, then the last ones."""
        # The reason stands far above the end, which is a table of options.
        lines = self.logs().splitlines()
        errors = [line[:500] for line in lines[:-20] if re.match(r"E\d{4} ", line)]
        return "\n".join([*errors, "last lines:", *lines[-20:]])

    def stop(self) -> Stopped:
        """Ask the server to end, as ``docker stop`` does, and wait until it has."""
        start = time.monotonic()
        self.container.kill("SIGTERM")
        code = int(self.container.wait(timeout=STOP_SECONDS)["StatusCode"])
        return Stopped(code, time.monotonic() - start)


def _archive(folder: Path) -> bytes:
    """A tar of the repository as ``models/``, owned by root and readable by any user."""

    def plain(member: tarfile.TarInfo) -> tarfile.TarInfo:
        member.uid = member.gid = 0
        member.uname = member.gname = ""
        member.mode = 0o755 if member.isdir() else 0o644
        return member

    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.add(folder, arcname="models", filter=plain)
    return buffer.getvalue()


def _wait_ready(server: Server, seconds: float) -> None:
    start = time.monotonic()
    while True:
        server.container.reload()
        if server.container.status in ("exited", "dead"):
            code = server.container.attrs["State"]["ExitCode"]
            raise ServerError(f"ended with status {code}:\n{server.complaint()}")
        try:
            if server.client.status("health/ready") == 200:
                break
        except requests.RequestException:
            pass  # nothing listens on the published port yet
        if time.monotonic() - start > seconds:
            raise ServerError(f"not ready within {seconds} s:\n{server.complaint()}")
        time.sleep(0.1)
    server.ready_seconds = time.monotonic() - start


def _client(container: Container) -> Client:
    container.reload()
    if container.status != "running":
        raise ServerError(f"ended at once; last lines:\n{container.logs(tail=40).decode()}")
    ports = container.attrs["NetworkSettings"]["Ports"]
    http, grpc, metrics = (int(ports[f"{port}/tcp"][0]["HostPort"]) for port in PORTS)
    return Client(http, grpc, metrics)


@contextmanager
def serve(
    image: str,
    repository: Path | None,
    args: Sequence[str] = DEFAULT_ARGS,
    shm: str = "256m",
    *,
    command: Sequence[str] | None = None,
    ready_seconds: float = READY_SECONDS,
) -> Iterator[Server]:
    """Run ``image`` with the models of ``repository`` until the block ends.

    Without a repository nothing is copied in, and with ``command=[]`` the image's own command
    runs: together they serve an image that brings its models along.
    """
    if command is None:
        command = ["tritonserver", "--model-repository=/models", *args]
    engine = docker.from_env()
    container = engine.containers.create(
        image,
        list(command) or None,
        shm_size=shm,
        # Port 0 lets the engine choose; only the loopback, since this is for tests.
        ports={f"{port}/tcp": ("127.0.0.1", None) for port in PORTS},
    )
    client: Client | None = None
    try:
        if repository is not None:
            # Copied, not mounted: the engine may not see the file system of the tests.
            container.put_archive("/", _archive(repository))
        container.start()
        client = _client(container)
        server = Server(container, client)
        _wait_ready(server, ready_seconds)
        yield server
    finally:
        if client is not None:
            client.close()
        container.remove(force=True, v=True)
        engine.close()
