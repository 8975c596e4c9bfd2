"""A Docker Engine of the bench's own: cold when it is asked to be, its CPU time its own.

An Engine that others use has their layers, which a pull would not fetch again; here everything
may be pruned, since nothing belongs to anybody else.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")
_BRIDGE = "assembler-bench"


@dataclass(frozen=True)
class Engine:
    """A running Engine. host: for DOCKER_HOST. pid: of dockerd. data: its folder of images."""

    host: str
    pid: int
    data: Path

    @property
    def env(self) -> dict[str, str]:
        """Environment in which docker and the tool reach this Engine and no other."""
        left_out = ("DOCKER_CONTEXT", "DOCKER_TLS_VERIFY", "DOCKER_CERT_PATH")
        kept = {key: value for key, value in os.environ.items() if key not in left_out}
        return kept | {"DOCKER_HOST": self.host}

    def docker(self, *words: str) -> str:
        """Run the docker command; return its standard output. RuntimeError with what it says."""
        done = subprocess.run(
            ["docker", *words], env=self.env, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise RuntimeError(f"docker {words[0]}: {(done.stderr or done.stdout)[-2000:]}")
        return done.stdout

    def reset(self) -> None:
        """Leave no image, container or build cache; have what is dirty written out."""
        self.docker("system", "prune", "--all", "--force")
        if left := self.docker("images", "--all", "--quiet").split():
            raise RuntimeError(f"the Engine keeps {len(left)} images")
        os.sync()

    def cpu_seconds(self) -> float:
        """CPU seconds so far of dockerd, its containerd and the children they waited for."""
        return sum(_ticks(pid) for pid in _family(self.pid)) / _TICKS

    def size(self, reference: str) -> int:
        """Unpacked bytes of an image, as the Engine counts them."""
        return int(self.docker("image", "inspect", "--format", "{{.Size}}", reference))


def _stat(pid: int) -> list[str]:
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return []
    return text.rpartition(")")[2].split()  # from field 3, state, on (proc(5))


def _family(root: int) -> list[int]:
    parents = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit() and (fields := _stat(int(folder.name))):
            parents[int(folder.name)] = int(fields[1])
    found = [root]
    for pid in found:  # grows while it is walked
        found += [child for child, parent in parents.items() if parent == pid]
    return found


def _ticks(pid: int) -> int:
    return sum(map(int, _stat(pid)[11:15]))  # utime, stime, cutime, cstime


@contextmanager
def own_engine(folder: Path) -> Iterator[Engine]:
    """Run dockerd on a socket in `folder` and end it with the context. Needs root."""
    if shutil.which("dockerd") is None:
        raise RuntimeError("the bench needs dockerd")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "docker.pid").unlink(missing_ok=True)
    (folder / "daemon.json").write_text("{}")  # not the machine's own settings
    host, data = f"unix://{folder / 'docker.sock'}", folder / "data"
    command = [
        "dockerd", "--config-file", folder / "daemon.json", "--host", host, "--data-root", data,
        "--exec-root", folder / "exec", "--pidfile", folder / "docker.pid",
        f"--bridge={_BRIDGE}", "--iptables=false",
    ]  # fmt: skip
    # Without a bridge of its own, dockerd would take the other Engine's docker0 away.
    subprocess.run(["ip", "link", "delete", _BRIDGE], capture_output=True, check=False)
    subprocess.run(["ip", "link", "add", _BRIDGE, "type", "bridge"], check=True)
    subprocess.run(["ip", "address", "add", "198.18.99.1/24", "dev", _BRIDGE], check=True)
    with (folder / "dockerd.log").open("wb") as log:
        process = subprocess.Popen([str(word) for word in command], stdout=log, stderr=log)
    engine = Engine(host, process.pid, data)
    try:
        _wait(engine, process, folder / "dockerd.log")
        yield engine
        engine.reset()
    finally:
        process.terminate()
        process.wait(60)
        subprocess.run(["ip", "link", "delete", _BRIDGE], capture_output=True, check=False)


def _wait(engine: Engine, process: subprocess.Popen[bytes], log: Path) -> None:
    for _ in range(300):
        done = subprocess.run(
            ["docker", "version"], env=engine.env, capture_output=True, check=False
        )
        if done.returncode == 0:
            return
        if process.poll() is not None:
            break
        time.sleep(0.2)
    raise RuntimeError(f"dockerd does not answer: {log.read_text()[-1000:]}")
