"""A real registry and a real Docker Engine for tests, started where none is there to use."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_CONFIG = """version: 0.1
log: {{level: error}}
storage: {{filesystem: {{rootdirectory: {folder}}}, delete: {{enabled: true}}}}
http: {{addr: "127.0.0.1:{port}"}}
"""


def free_port() -> int:
    """Return a loopback port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def registry(folder: Path, port: int | None = None) -> Iterator[str]:
    """Run docker-registry with its storage in `folder`; yield its host:port."""
    port = port or free_port()
    folder.mkdir(parents=True, exist_ok=True)
    config = folder / "config.yml"
    config.write_text(_CONFIG.format(folder=folder / "data", port=port))
    process = subprocess.Popen(
        ["docker-registry", "serve", str(config)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        _wait(f"http://127.0.0.1:{port}/v2/", process)
        yield f"localhost:{port}"
    finally:
        process.terminate()
        process.wait(20)


def _wait(url: str, process: subprocess.Popen[bytes]) -> None:
    for _ in range(200):
        try:
            urllib.request.urlopen(url, timeout=5).close()
            return
        except (urllib.error.URLError, OSError):
            if process.poll() is not None:
                raise RuntimeError(
                    f"it ended with {process.returncode}: {process.args!r}"
                ) from None
            time.sleep(0.05)
    raise RuntimeError(f"{url} does not answer")


def push(layout: Path, tag: str, reference: str) -> None:
    """Copy the image of a layout into a loopback registry, index and all."""
    subprocess.run(
        ["skopeo", "copy", "--quiet", "--all", "--dest-tls-verify=false",
         f"oci:{layout}:{tag}", f"docker://{reference}"],
        check=True,
    )  # fmt: skip


def engine_answers() -> bool:
    """Tell whether a Docker Engine answers on the default socket."""
    docker = shutil.which("docker")
    if docker is None:
        return False
    return subprocess.run([docker, "version"], capture_output=True, check=False).returncode == 0


@contextmanager
def engine(folder: Path) -> Iterator[None]:
    """Have a Docker Engine: the one that answers, or one of our own that ends with the context."""
    if engine_answers():
        yield
        return
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "dockerd.log").open("ab") as log:
        process = subprocess.Popen(
            ["dockerd", "--data-root", str(folder / "docker")], stdout=log, stderr=log
        )
        try:
            _await_engine(process, folder / "dockerd.log")
            yield
        finally:
            process.terminate()
            process.wait(60)


def _await_engine(process: subprocess.Popen[bytes], log: Path) -> None:
    for _ in range(300):
        if engine_answers():
            return
        if process.poll() is not None:
            raise RuntimeError(f"dockerd ended; see {log}")
        time.sleep(0.2)
    raise RuntimeError(f"dockerd does not answer; see {log}")
