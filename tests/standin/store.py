"""Folders that are made once and kept, and the commands that make them."""

from __future__ import annotations

import fcntl
import hashlib
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path


def run(
    *command: str | Path, cwd: Path | None = None, env: Mapping[str, str] | None = None
) -> None:
    """Run a command; RuntimeError with the end of what it said where it fails."""
    words = [str(word) for word in command]
    done = subprocess.run(
        words, cwd=cwd, env=env, check=False, capture_output=True, text=True, errors="replace"
    )
    if done.returncode:
        said = (done.stdout + done.stderr).strip()[-2000:]
        raise RuntimeError(f"{words[0]} ended with status {done.returncode}:\n{said}")


class Store:
    """Folders by name and by what they are made from: another recipe gets another folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()
        self.folder.mkdir(parents=True, exist_ok=True)

    def once(self, name: str, recipe: str, make: Callable[[Path], None]) -> Path:
        """Return the folder of `recipe`, made by `make` in full or not at all."""
        folder = self.folder / f"{name}-{hashlib.sha256(recipe.encode()).hexdigest()[:10]}"
        if not folder.exists():
            making = self.folder / f"{name}.making"
            shutil.rmtree(making, ignore_errors=True)
            making.mkdir()
            make(making)
            making.rename(folder)
        return folder


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Let one process at a time work in a folder; the kernel lets go of it where that is killed."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
