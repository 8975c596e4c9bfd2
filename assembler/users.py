"""Users of the new image: lines in the base's passwd, group, shadow and gshadow.

Source: passwd(5), group(5), shadow(5); upstream's build.py (useradd triton-server, uid and gid
1000; on Ubuntu 24.04 the base's own user 1000, `ubuntu`, is deleted first).
"""

from __future__ import annotations

from assembler.rootfs import RootFS
from assembler.stages import User

_REASON = "user {name} exists, as in the official image"


def add(rootfs: RootFS, user: User, stage: str) -> None:
    """Make `user` exist, with its group and home. Whoever had its uid, gid or name gives way."""
    passwd = _lines(rootfs, "etc/passwd")
    gone = {
        fields[0]
        for line in passwd
        if len(fields := line.split(":")) > 3
        and (fields[0] == user.name or fields[2] == str(user.uid))
    }
    groups = {
        fields[0]
        for line in _lines(rootfs, "etc/group")
        if len(fields := line.split(":")) > 2
        and (fields[0] == user.name or fields[2] == str(user.gid) or fields[0] in gone)
    }
    ids = f"{user.uid}:{user.gid}"
    added = {
        "etc/passwd": (f"{user.name}:x:{ids}::{user.home}:/bin/sh", gone, 0o644),
        "etc/group": (f"{user.name}:x:{user.gid}:", groups, 0o644),
        "etc/shadow": (f"{user.name}:!:19000:0:99999:7:::", gone, 0o640),
        "etc/gshadow": (f"{user.name}:!::", groups, 0o640),
        "etc/subuid": ("", gone, 0o644),
        "etc/subgid": ("", gone, 0o644),
    }
    reason = _REASON.format(name=user.name)
    for path, (line, names, mode) in added.items():
        old = _lines(rootfs, path)
        new = [text for text in old if text.split(":")[0] not in names]
        # A user that gives way leaves the groups that it was a member of.
        if path.endswith("group") or path.endswith("gshadow"):
            new = [_without(text, gone) for text in new]
        new += [line] if line else []
        if new != old and (old or line):
            rootfs.replace(path, "".join(f"{text}\n" for text in new).encode(), stage, reason, mode)
    rootfs.make_folder(user.home.strip("/"), stage, reason, 0o755, user.uid, user.gid)


def _lines(rootfs: RootFS, path: str) -> list[str]:
    content = rootfs.content(path)
    return content.read().decode("utf-8", "surrogateescape").splitlines() if content else []


def _without(line: str, names: set[str]) -> str:
    head, _, members = line.rpartition(":")
    return f"{head}:{','.join(m for m in members.split(',') if m not in names)}"
