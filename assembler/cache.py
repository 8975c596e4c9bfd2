"""Files kept from run to run to spare work; a folder that cannot be used costs one warning."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Callable
from pathlib import Path


class Cache:
    """A folder, or none at all. warn: takes the one warning."""

    def __init__(self, folder: Path | None, warn: Callable[[str], None]) -> None:
        self._folder, self._warn = folder, warn
        self._writable = folder is not None
        self._lock = threading.Lock()

    def find(self, glob: str) -> list[Path]:
        """Return the files in it that fit, by name."""
        try:
            return sorted(self._folder.glob(glob)) if self._folder else []
        except OSError as error:
            self._refused(error)
            return []

    def put(self, name: str, data: bytes) -> None:
        """Keep `data` as the file `name` (which may have folders), whole or not at all."""
        if not self._writable or self._folder is None:
            return
        path = self._folder / name
        temporary = None
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".", delete=False) as file:
                temporary = Path(file.name)
                file.write(data)
            temporary.chmod(0o644)
            temporary.replace(path)
        except OSError as error:
            self._refused(error)
        finally:
            if temporary is not None:
                temporary.unlink(missing_ok=True)

    def _refused(self, error: OSError) -> None:
        with self._lock:
            told, self._writable = not self._writable, False
        if not told:
            self._warn(
                f"the cache {self._folder} cannot be used ({error.strerror}), so nothing is kept "
                "there: choose another with --cache-dir, or say --no-cache"
            )
