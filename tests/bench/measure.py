"""One command measured: its seconds, CPU seconds, memory, and what it writes."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from dataclasses import dataclass
from pathlib import Path

_EVERY = 0.05  # seconds between two looks at the temporary folder


@dataclass(frozen=True)
class Cost:
    """What one command took.

    seconds: on the wall. cpu: CPU seconds of it and its children. memory: peak bytes of the
    largest process of them. written: bytes it sent to disk. temporary: peak bytes in TMPDIR.
    output: its standard output.
    """

    seconds: float
    cpu: float
    memory: int
    written: int
    temporary: int
    output: str


def disk_usage(folder: Path) -> int:
    """Bytes on disk under a folder; what goes away meanwhile is not counted."""
    total = 0
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                try:
                    if entry.is_dir(follow_symlinks=False):
                        total += disk_usage(Path(entry.path))
                    else:
                        total += entry.stat(follow_symlinks=False).st_blocks * 512
                except FileNotFoundError:
                    continue
    except FileNotFoundError:
        pass
    return total


class _Watch(threading.Thread):
    """Notes the largest size that a folder has."""

    def __init__(self, folder: Path) -> None:
        super().__init__(daemon=True)
        self.folder, self.peak, self.stop = folder, 0, threading.Event()

    def run(self) -> None:
        while not self.stop.wait(_EVERY):
            self.peak = max(self.peak, disk_usage(self.folder))


def measure(command: list[str], env: dict[str, str], cwd: Path, temporary: Path) -> Cost:
    """Run `command` with TMPDIR at `temporary`, an empty folder; RuntimeError where it fails.

    A child begins with its parent's peak memory (ru_maxrss outlives exec), so the caller has to
    stay small.
    """
    temporary.mkdir(parents=True, exist_ok=True)
    said, complaints = temporary.parent / "stdout", temporary.parent / "stderr"
    watch = _Watch(temporary)
    with said.open("wb") as out, complaints.open("wb") as err:
        start = time.perf_counter()
        process = subprocess.Popen(
            command, env=env | {"TMPDIR": str(temporary)}, cwd=cwd, stdout=out, stderr=err
        )
        watch.start()
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    watch.stop.set()
    watch.join()
    if process.returncode:
        raise RuntimeError(f"{command[:4]} failed: {complaints.read_text()[-2000:]}")
    return Cost(
        seconds,
        usage.ru_utime + usage.ru_stime,
        usage.ru_maxrss * 1024,
        usage.ru_oublock * 512,
        watch.peak,
        said.read_text(),
    )
