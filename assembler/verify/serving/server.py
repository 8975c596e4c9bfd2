"""A Triton server in a container, for the time of a `with` block."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import requests

from assembler.errors import AssemblerError
from assembler.verify.container import Container, Limits, Stopped, run
from assembler.verify.serving.client import Client

READY_SECONDS = 120.0
ALL = ("--model-control-mode=explicit", "--load-model=*")

_ERROR = re.compile(r"E\d{4} ")
# What a server says on any machine without a GPU, and then goes on.
_NO_GPU = re.compile(r"CudaDriverHelper|NVML|DCGM|pinned system memory|unable to create stream")


class ServerError(AssemblerError):
    """The server ended, or did not get ready; the message has what it logged as errors."""


@dataclass
class Server:
    """A running container and the client to it."""

    container: Container
    client: Client
    ready_seconds: float = 0.0

    def logs(self) -> str:
        """What the server wrote so far."""
        return self.container.logs()

    def complaint(self) -> str:
        """What a failure should quote: the lines logged as errors, else the last ones."""
        # The reason stands far above the end, which is a table of options.
        lines = self.logs().splitlines()
        errors = [line[:500] for line in lines if _ERROR.match(line) and not _NO_GPU.search(line)]
        last = [line for line in lines[-40:] if line.strip() and not line.startswith(("|", "+"))]
        return "\n".join(errors[-5:] or last[-5:]) or "it wrote nothing"

    def stop(self) -> Stopped:
        """Ask the server to end, as `docker stop` does, and wait until it has."""
        self.client.close()
        return self.container.stop()


def _wait_ready(server: Server, seconds: float) -> None:
    start = time.monotonic()
    while True:
        state = server.container.state
        if not state["Running"]:
            killed = " (out of memory)" if state.get("OOMKilled") else ""
            raise ServerError(
                f"ended with status {state['ExitCode']}{killed}: {server.complaint()}"
            )
        try:
            if server.client.status("health/ready", timeout=5) == 200:
                break
        except requests.RequestException:
            pass  # nothing listens yet
        if time.monotonic() - start > seconds:
            raise ServerError(f"not ready within {seconds:.0f} s: {server.complaint()}")
        time.sleep(0.05)


@contextmanager
def serve(
    image: str,
    repository: Path | None,
    args: Sequence[str] = ALL,
    limits: Limits | None = None,
    *,
    command: Sequence[str] | None = None,
    ready_seconds: float = READY_SECONDS,
) -> Iterator[Server]:
    """Run `image` with the models of `repository` until the block ends; yields it once ready.

    Without a repository nothing is copied in, and with `command=[]` the image's own command
    runs: together they serve an image that brings its models along.
    Raises ServerError where it does not get ready and EngineError for what the Engine says.
    """
    if command is None:
        command = ["tritonserver", "--model-repository=/models", *args]
    with run(image, command, repository, limits) as container:
        if not container.state["Running"]:
            lines = container.logs(20).split("\n")
            raise ServerError(f"ended at once; its last line: {lines[-2:][0]}")
        client = Client(container.address)
        try:
            server = Server(container, client)
            _wait_ready(server, ready_seconds)
            server.ready_seconds = time.monotonic() - container.started
            yield server
        finally:
            client.close()
