"""Tar entries of layers: made of nothing, and of folders that an overlay mount left."""

from __future__ import annotations

import io
import os
import stat
import tarfile
from collections.abc import Collection
from pathlib import Path

EPOCH = 1716595200  # 2024-05-25, the day of the image; all files have it, so that digests hold
Owner = tuple[int, int]
ROOT: Owner = (0, 0)


def _info(name: str, kind: bytes, mode: int, owner: Owner) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.mode, info.mtime = kind, mode, EPOCH
    info.uid, info.gid = owner
    return info


def add(
    tar: tarfile.TarFile, name: str, data: bytes = b"", *, mode: int = 0o644, owner: Owner = ROOT
) -> None:
    """Add a file."""
    info = _info(name, tarfile.REGTYPE, mode, owner)
    info.size = len(data)
    tar.addfile(info, io.BytesIO(data))


def add_folder(tar: tarfile.TarFile, name: str, *, mode: int = 0o755, owner: Owner = ROOT) -> None:
    """Add a folder alone, without what is in it."""
    tar.addfile(_info(name, tarfile.DIRTYPE, mode, owner))


def add_link(tar: tarfile.TarFile, name: str, target: str, *, owner: Owner = ROOT) -> None:
    """Add a symbolic link."""
    info = _info(name, tarfile.SYMTYPE, 0o777, owner)
    info.linkname = target
    tar.addfile(info)


def add_tree(tar: tarfile.TarFile, folder: Path, without: Collection[str] = ()) -> None:
    """Add what is in a folder of this machine: a root file system, or an overlay's upper folder.

    An overlay's whiteouts (character device 0:0) and opaque folders become those of the OCI
    image-spec (layer.md, Whiteouts). without: paths that are not to be added.
    """
    first_names: dict[tuple[int, int], str] = {}
    for top, folders, files in os.walk(folder):
        folders.sort()
        here = Path(top)
        for name in sorted(folders + files):
            path = here / name
            inside = str(path.relative_to(folder))
            if inside not in without:
                _add_path(tar, path, inside, first_names)


def _add_path(
    tar: tarfile.TarFile, path: Path, inside: str, first_names: dict[tuple[int, int], str]
) -> None:
    status = path.lstat()
    mode, owner = stat.S_IMODE(status.st_mode), (status.st_uid, status.st_gid)
    identity = (status.st_dev, status.st_ino)
    if stat.S_ISCHR(status.st_mode) and status.st_rdev == 0:
        add(tar, str(Path(inside).with_name(f".wh.{path.name}")))
    elif stat.S_ISDIR(status.st_mode):
        add_folder(tar, inside, mode=mode, owner=owner)
        if _opaque(path):
            add(tar, f"{inside}/.wh..wh..opq")
    elif stat.S_ISLNK(status.st_mode):
        add_link(tar, inside, str(path.readlink()), owner=owner)
    elif stat.S_ISREG(status.st_mode) and identity in first_names:
        info = _info(inside, tarfile.LNKTYPE, mode, owner)
        info.linkname = first_names[identity]
        tar.addfile(info)
    elif stat.S_ISREG(status.st_mode):
        first_names[identity] = inside
        info = _info(inside, tarfile.REGTYPE, mode, owner)
        info.size = status.st_size
        with path.open("rb") as file:
            tar.addfile(info, file)
    # Sockets, pipes and devices are no part of an image.


def _opaque(path: Path) -> bool:
    try:
        return os.getxattr(path, "trusted.overlay.opaque") == b"y"
    except OSError:
        return False
