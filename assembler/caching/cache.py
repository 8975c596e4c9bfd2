"""What is kept from run to run to spare work, in one folder of immutable files.

A file appears by being renamed or linked into place, whole; nothing is ever changed in it, and
who uses a large one links it into a folder of its own first. So runs need no locks: two at once,
one that is killed, or one that prunes while another reads, do each other no harm, on any disk.
What is read back is checked, and counts as absent when it is damaged. A folder that cannot be
used costs one warning.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import itertools
import os
import re
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from assembler import oci

# Bytes that the folder may hold when a run has ended; what was used longest ago goes first.
LIMIT = 8_000_000_000
# Bytes that a run may write: less than this on the cache's disk, and the run goes on without.
ROOM = 1_000_000_000
_STALE = 86400.0  # seconds after which a temporary file belongs to no run any more
_TEMPORARY = "tmp"
# Names of what is kept; the folder may be anybody's, and other files in it are not ours to remove.
_KINDS = (
    "blobs", "configs", "documents", "indexes", "layers", "records", "results", "stages", "tags",
    "wheels", _TEMPORARY,
)  # fmt: skip
_OURS = re.compile(
    r"[a-z]+/(?:sha256/)?[0-9a-f]{64}.*|tmp/(?:assembler|bundle)-.*|wheels/[^/]+\.whl"
    r"|(?:[^/]+/)+\.assembler-[^/]*"
)


class Stored(NamedTuple):
    """A file in the cache. used: when it was last, in seconds since 1970."""

    path: Path
    size: int
    used: float


class Cache:
    """A folder, or none at all. warn: takes the one warning."""

    def __init__(self, folder: Path | None, warn: Callable[[str], None]) -> None:
        self._folder, self._warn = folder, warn
        self._writable = folder is not None
        self._lock = threading.Lock()

    # -- reading ------------------------------------------------------------------------

    def find(self, glob: str) -> list[Path]:
        """Return the files in it that fit, by name."""
        try:
            return sorted(self._folder.glob(glob)) if self._folder else []
        except OSError as error:
            self._refused(error)
            return []

    def get(self, name: str) -> bytes | None:
        """Return what `put` stored under this name; None where it is not there or damaged."""
        if self._folder is None:
            return None
        path = self._folder / name
        try:
            seal, _, data = path.read_bytes().partition(b"\n")
        except OSError:
            return None
        if seal != _seal(data):
            return None
        self._used(path)
        return data

    def blob(self, digest: str, into: Path) -> Path | None:
        """Return a link in the folder `into` to the blob of this digest, checked; None without."""
        if self._folder is None:
            return None
        name = digest.removeprefix("sha256:")
        found = self.link(self._folder / "blobs" / "sha256" / name, into / name)
        if found is None or oci.sha256_of(found) == digest:
            return found
        found.unlink()
        self.remove(f"blobs/sha256/{name}")
        return None

    def link(self, file: Path, target: Path) -> Path | None:
        """Return `target` as another name of a file that `find` gave, or a copy of it.

        Under a name of one's own, nobody can take it away. None where it is gone already.
        """
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            target.unlink(missing_ok=True)
            _link(file, target)
        except OSError:
            target.unlink(missing_ok=True)
            return None
        self._used(file)
        return target

    # -- writing ------------------------------------------------------------------------

    def put(self, name: str, data: bytes, *, sealed: bool = True) -> None:
        """Keep `data` as the file `name` (which may have folders), whole or not at all.

        sealed: for `get`; else the file is as others expect it.
        """
        with self._writing(name) as temporary:
            if temporary is not None:
                temporary.write_bytes(_seal(data) + b"\n" + data if sealed else data)

    def remove(self, name: str) -> None:
        """Forget what is kept under this name."""
        if self._folder is not None:
            with contextlib.suppress(OSError):
                (self._folder / name).unlink()

    def add(self, name: str, file: Path) -> None:
        """Keep the finished file `file` as `name`: a link to it, where the disk allows that.

        What has the name gives way, since it may be damaged.
        """
        with self._writing(name) as temporary:
            if temporary is not None:
                temporary.unlink()
                _link(file, temporary)

    def add_blob(self, digest: str, file: Path) -> None:
        """Keep a blob, whose bytes were verified."""
        name = f"blobs/{digest.replace(':', '/')}"
        if not self.find(name):
            self.add(name, file)

    @contextlib.contextmanager
    def _writing(self, name: str) -> Iterator[Path | None]:
        """Yield a file beside `name` that takes its place at the end; None where it cannot."""
        if not self._writable or self._folder is None:
            yield None
            return
        path = self._folder / name
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            handle, made = tempfile.mkstemp(dir=path.parent, prefix=".assembler-")
        except OSError as error:
            self._refused(error)
            yield None
            return
        os.close(handle)
        temporary = Path(made)
        try:
            yield temporary
            temporary.chmod(0o644)
            temporary.replace(path)
        except OSError as error:
            self._refused(error)
        finally:
            temporary.unlink(missing_ok=True)

    def _used(self, path: Path) -> None:
        with contextlib.suppress(OSError):
            os.utime(path)

    def _refused(self, error: OSError) -> None:
        with self._lock:
            told, self._writable = not self._writable, False
        if not told:
            self._warn(
                f"the cache {self._folder} cannot be used ({error.strerror}), so nothing is kept "
                "there: choose another with --cache-dir, or say --no-cache"
            )

    # -- the folder as a whole -------------------------------------------------------------

    def scratch(self) -> Path | None:
        """Return a folder on the same disk, where a run may have its temporary files.

        What is finished there can be kept by a link, without being written twice.
        """
        if not self._writable or self._folder is None:
            return None
        folder = self._folder / _TEMPORARY
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if shutil.disk_usage(folder).free < ROOM:
                raise OSError(errno.ENOSPC, f"its disk has less than {ROOM // 10**6} MB left")
            with tempfile.TemporaryFile(dir=folder):
                return folder
        except OSError as error:
            self._refused(error)
            return None

    def files(self) -> list[Stored]:
        """Return all that is kept, what was used longest ago first."""
        found: list[Stored] = []
        home = self._folder or Path()
        walks = (os.walk(home / kind) for kind in _KINDS if self._folder)
        for folder, _, names in itertools.chain.from_iterable(walks):
            for name in names:
                path = Path(folder, name)
                if not _OURS.fullmatch(path.relative_to(home).as_posix()):
                    continue
                with contextlib.suppress(OSError):
                    status = path.lstat()
                    found.append(Stored(path, status.st_size, status.st_mtime))
        return sorted(found, key=lambda each: each.used)

    def prune(self, *, limit: int | None = LIMIT, age: float | None = None) -> list[Stored]:
        """Remove what was not used for `age` seconds, then the oldest until `limit` bytes are left.

        Returns what was removed. Temporary files of runs that may still go on stay.
        """
        now, gone = time.time(), []
        if self._folder is not None:
            for left in (self._folder / _TEMPORARY).glob("*"):
                if not _OURS.fullmatch(f"{_TEMPORARY}/{left.name}"):
                    continue
                with contextlib.suppress(OSError):
                    if now - left.lstat().st_mtime > _STALE:
                        shutil.rmtree(left, ignore_errors=True)
        files = [each for each in self.files() if not self._temporary(each.path)]
        total = sum(each.size for each in files)
        for each in files:
            old = age is not None and now - each.used >= age
            if not old and (limit is None or total <= limit):
                continue
            with contextlib.suppress(OSError):
                each.path.unlink()
                total -= each.size
                gone.append(each)
        return gone

    def _temporary(self, path: Path) -> bool:
        assert self._folder is not None
        inside = path.relative_to(self._folder)
        with contextlib.suppress(OSError):
            fresh = time.time() - path.lstat().st_mtime < _STALE
            return inside.parts[0] == _TEMPORARY or (path.name.startswith(".") and fresh)
        return True


def _link(file: Path, target: Path) -> None:
    try:
        target.hardlink_to(file)
    except OSError:  # Another disk, or one without hard links.
        shutil.copyfile(file, target)


def _seal(data: bytes) -> bytes:
    return hashlib.sha256(data).hexdigest().encode()
