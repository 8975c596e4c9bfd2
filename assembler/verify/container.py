"""A container of an image, on a network of its own that leads nowhere, for the time of a block.

An internal network has no route out of this machine; from here its containers are reached by
their addresses, so no port of this machine is taken. Time, memory and processes are limited.
"""

from __future__ import annotations

import os
import socket
import tarfile
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from assembler import interrupts
from assembler.engine import EngineError, connect, engine_errors

LABEL = "triton-assembler.verify"
STOP_SECONDS = 60
_PROCESSES = 4096


@dataclass(frozen=True)
class Limits:
    """seconds: until the container is killed. memory, shm: as docker run has them."""

    seconds: float = 300.0
    memory: str = "4g"
    shm: str = "1g"  # up to 23.04, each python model takes 64 MB of it before it starts


@dataclass(frozen=True)
class Stopped:
    """How a container ended after SIGTERM."""

    exit_code: int
    seconds: float


class Container:
    """A container that runs. started: when that was, by time.monotonic()."""

    def __init__(self, client: Any, container_id: str, network: str) -> None:
        self._client, self.id, self._network = client, container_id, network
        self.started = time.monotonic()
        self.timed_out = threading.Event()

    @property
    def state(self) -> dict[str, Any]:
        """What the Engine says of it: Running, ExitCode, OOMKilled."""
        with engine_errors("asking for the container"):
            found: dict[str, Any] = self._client.inspect_container(self.id)["State"]
        return found

    @property
    def address(self) -> str:
        """Its address on the internal network; EngineError where it has none."""
        with engine_errors("asking for the container's address"):
            settings = self._client.inspect_container(self.id)["NetworkSettings"]
        address = settings["Networks"].get(self._network, {}).get("IPAddress")
        if not address:
            raise EngineError("the container ended at once, or its network has no address")
        return str(address)

    def logs(self, lines: int | None = None) -> str:
        """Return what it wrote so far, on both streams."""
        with engine_errors("reading the container's log"):
            text: bytes = self._client.logs(self.id, tail="all" if lines is None else lines)
        return text.decode("utf-8", "replace")

    def execute(self, *command: str) -> bytes:
        """Run a command inside and return its standard output; EngineError where it fails."""
        with engine_errors(f"running {command[0]} in the container"):
            made = self._client.exec_create(self.id, list(command), stderr=False)
            output: bytes = self._client.exec_start(made["Id"])
            code = self._client.exec_inspect(made["Id"])["ExitCode"]
        if code:
            raise EngineError(f"{' '.join(command)[:100]} in the container ends with status {code}")
        return output

    def wait(self, seconds: float) -> int:
        """Return its exit status once it has ended; EngineError after that time."""
        with engine_errors(f"waiting {seconds:.0f} s for the container's end"):
            return int(self._client.wait(self.id, timeout=seconds)["StatusCode"])

    def stop(self) -> Stopped:
        """Ask it to end, as `docker stop` does, and wait until it has."""
        start = time.monotonic()
        with engine_errors("stopping the container"):
            self._client.kill(self.id, "SIGTERM")
        return Stopped(self.wait(STOP_SECONDS), time.monotonic() - start)

    def kill(self) -> None:
        """End it at once; nothing happens where it has ended."""
        with suppress(Exception):
            self._client.kill(self.id)


def archive(folder: Path, name: str) -> Any:
    """Return a tar of `folder` as `name`/, owned by root and readable by any user, as a file."""

    def plain(member: tarfile.TarInfo) -> tarfile.TarInfo:
        member.uid = member.gid = 0
        member.uname = member.gname = ""
        member.mode = 0o755 if member.isdir() else 0o644
        return member

    spooled = tempfile.SpooledTemporaryFile(max_size=1 << 24)  # noqa: SIM115
    with tarfile.open(fileobj=spooled, mode="w") as tar:
        # What links lead to is copied: a repository may be made of links to a store of models.
        tar.dereference = True
        tar.add(folder, arcname=name, filter=plain)
    spooled.seek(0)
    return spooled


@contextmanager
def run(
    image: str,
    command: Sequence[str] | None,
    models: Path | None = None,
    limits: Limits | None = None,
    *,
    working_dir: str | None = None,
) -> Iterator[Container]:
    """Run `image` with `command` (its own where that is empty) until the block ends.

    models: a folder that becomes /models. Raises EngineError for what the Engine says. After the
    block neither container nor network are there, however it ends.
    """
    limits = limits or Limits()
    name = f"assembler-verify-{uuid.uuid4().hex[:12]}"
    client = connect()
    made: str | None = None
    try:
        with engine_errors(f"starting {image}"):
            with interrupts.held():
                client.create_network(name, internal=True, labels={LABEL: _owner()})
                made = client.create_container(
                    image,
                    list(command) if command else None,
                    name=name,
                    labels={LABEL: _owner()},
                    working_dir=working_dir,
                    host_config=client.create_host_config(
                        network_mode=name,
                        mem_limit=limits.memory,
                        shm_size=limits.shm,
                        pids_limit=_PROCESSES,
                        # The Engine's own resolver would ask the machine's name servers.
                        dns=["127.0.0.1"],
                    ),
                )["Id"]
            if models is not None:
                # Copied, not mounted: the Engine may not see our file system.
                with archive(models, "models") as data:
                    client.put_archive(made, "/", data)
            container = Container(client, made, name)
            client.start(made)

        def expire() -> None:
            container.timed_out.set()
            container.kill()

        timer = threading.Timer(limits.seconds, expire)
        timer.daemon = True
        timer.start()
        try:
            yield container
        finally:
            timer.cancel()
    finally:
        with interrupts.held():
            _remove(client, made, name)


def _remove(client: Any, container: str | None, network: str) -> None:
    """Take away what was made. An Engine that went away in the middle keeps its remains, which
    carry LABEL: the next run takes them (`sweep`).
    """
    client.timeout = STOP_SECONDS
    if container is not None:
        with suppress(Exception):
            client.remove_container(container, force=True, v=True)
    with suppress(Exception):
        client.remove_network(network)
    with suppress(Exception):
        client.close()


def sweep(client: Any) -> None:
    """Remove what earlier runs on this machine left when they, or their Engine, were killed."""
    with suppress(Exception):
        for each in client.containers(all=True, filters={"label": [LABEL]}):
            if _is_orphan(each["Labels"][LABEL]):
                client.remove_container(each["Id"], force=True, v=True)
        for each in client.networks(filters={"label": [LABEL]}):
            if _is_orphan(each["Labels"][LABEL]):
                client.remove_network(each["Id"])


def _owner() -> str:
    return f"{os.getpid()}@{socket.gethostname()}"


def _is_orphan(owner: str) -> bool:
    process, _, host = owner.partition("@")
    return host == socket.gethostname() and not Path(f"/proc/{process}").exists()
