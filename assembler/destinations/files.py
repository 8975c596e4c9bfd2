"""An output path that is filled beside and put in place when it is whole."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import combinations
from pathlib import Path

from assembler import interrupts
from assembler.errors import DestinationError, UsageError


def check_output(path: Path, *, over: bool = False) -> None:
    """Raise DestinationError unless something new can be made at `path`.

    An empty folder counts as nothing there. over: and so does a file.
    """
    parent = path.absolute().parent
    try:
        if (path.is_symlink() or path.exists()) and not (over and path.is_file()):
            if not path.is_dir() or path.is_symlink():
                raise DestinationError(f"{path} exists already: remove it or choose another name")
            if any(path.iterdir()):
                raise DestinationError(
                    f"{path} exists already and is not empty: remove it or choose another name"
                )
        if not parent.is_dir():
            raise DestinationError(f"the folder {parent} does not exist: make it first")
    except OSError as error:
        raise DestinationError(f"cannot use {path}: {error.strerror}") from None
    if not os.access(parent, os.W_OK | os.X_OK, effective_ids=True):
        read_only = os.statvfs(parent).f_flag & os.ST_RDONLY
        reason = "it is on a read-only file system" if read_only else "no permission"
        raise DestinationError(f"cannot write into {parent}: {reason}")


def check_apart(places: Mapping[str, Path | None]) -> None:
    """Raise UsageError where one result would be written over another, or into a layout.

    places: by the option that names each; --output may be a folder that is filled as a whole.
    """
    given = [(option, path, os.path.realpath(path)) for option, path in places.items() if path]
    for (option, path, real), (other, second, place) in combinations(given, 2):
        if real == place or (option == "--output" and place.startswith(f"{real}{os.sep}")):
            where = "is" if real == place else "lies in"
            raise UsageError(f"{other} {second} {where} {option} {path}: choose another place")


@contextmanager
def made_beside(path: Path, *, folder: bool, over: bool = False) -> Iterator[Path]:
    """Give a new file or folder beside `path` to fill; put it at `path` when the block ends well.

    over: in the place of a file that is there. After an error or an interruption nothing is left,
    and what was there is as it was. DestinationError for what the disk says.
    """
    check_output(path, over=over)
    parent = path.absolute().parent
    prefix = f".{path.name}.partial-"
    temporary: Path | None = None
    try:
        if folder:
            temporary = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
        else:
            handle, name = tempfile.mkstemp(prefix=prefix, dir=parent)
            os.close(handle)
            temporary = Path(name)
        yield temporary
        # mkstemp and mkdtemp make private files; this is an ordinary result.
        mask = os.umask(0)
        os.umask(mask)
        temporary.chmod((0o777 if folder else 0o666) & ~mask)
        interrupts.finish()
        check_output(path, over=over)
        temporary.replace(path)
        sync(parent)
    except OSError as error:
        raise DestinationError(f"cannot write {path}: {error.strerror or error}") from None
    finally:
        if temporary is not None:
            if folder:
                shutil.rmtree(temporary, ignore_errors=True)
            else:
                temporary.unlink(missing_ok=True)


def sync(folder: Path) -> None:
    """Make the names in `folder` outlive a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
