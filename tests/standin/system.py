"""Real Debian below the server, step by step as upstream's Dockerfile takes them.

Each step runs in a chroot over an overlay mount of the steps below it, so what it leaves in the
overlay's upper folder is a layer as Docker would have made it: dpkg's database, whiteouts, opaque
folders, certificates made after unpacking. Needs root. The mounts live in a mount name space of
the command's own: they end with it, however it ends.
"""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

from tests.standin.store import Store, run
from tests.standin.tars import EPOCH

SHELL_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_MOUNTS = """
mount -t overlay overlay \
  -o "lowerdir=$LOWERS,upperdir=$UPPER,workdir=work,metacopy=off,redirect_dir=off" root
mount --rbind /dev root/dev
mount -t proc proc root/proc
if [ -n "$FILES" ]; then
  mkdir root/given
  mount --bind -o ro "$FILES" root/given
fi
if [ -n "$NETWORK" ]; then
  cp /etc/resolv.conf root/etc/resolv.conf
fi
chroot root /bin/sh -euc "$SCRIPT"
if [ -n "$NETWORK" ]; then rm root/etc/resolv.conf; fi
if [ -n "$FILES" ]; then umount root/given; rmdir root/given; fi
# Holds inode numbers and times of this machine.
rm -f root/var/cache/ldconfig/aux-cache
"""


def debian_mirror() -> str:
    """Return the mirror that this machine's own apt uses."""
    for path in [Path("/etc/apt/sources.list"), *Path("/etc/apt/sources.list.d").glob("*")]:
        pattern = r"^(?:URIs:|deb(?: +\[.*?\])?)\s+(\S*/debian/?)(?:\s|$)"
        if path.is_file() and (match := re.search(pattern, path.read_text(), re.MULTILINE)):
            return match[1]
    raise RuntimeError("this machine's apt sources name no Debian mirror")


class System:
    """The base and the steps over it; each is a folder of the store."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.layers = [store.once("base", "minbase bookworm 2", _debootstrap)]
        self._recipe = ""

    @property
    def base(self) -> Path:
        return self.layers[0]

    def put(self, folder: Path) -> Path:
        """Lay a folder that was made by other means over the layers, and return it."""
        self.layers.append(folder)
        self._recipe += folder.name
        return folder

    def step(
        self, name: str, script: str, *, network: bool = False, files: Path | None = None
    ) -> Path:
        """Run a shell script over the layers; return the folder of what it changed.

        files: a folder that it sees as /given.
        """
        self._recipe += f"{name} {script} {files.name if files else ''}"

        def make(folder: Path) -> None:
            place = self._store.folder
            for scratch in ("work", "root"):
                shutil.rmtree(place / scratch, ignore_errors=True)
                (place / scratch).mkdir()
            # Relative names, upper to lower: overlay splits them at colons and commas.
            lowers = ":".join(layer.name for layer in reversed(self.layers))
            run("unshare", "--mount", "sh", "-euc", _MOUNTS, cwd=place, env={
                **_proxies(),
                "PATH": SHELL_PATH,
                "HOME": "/root",
                "LC_ALL": "C.UTF-8",
                "DEBIAN_FRONTEND": "noninteractive",
                # Byte code names its source by content then, not by time; shadow takes its date.
                "SOURCE_DATE_EPOCH": str(EPOCH),
                "LOWERS": lowers,
                "UPPER": folder.name,
                "FILES": files.name if files else "",
                "NETWORK": "yes" if network else "",
                "SCRIPT": script,
            })  # fmt: skip

        layer = self._store.once(name, self._recipe, make)
        self.layers.append(layer)
        return layer


def _proxies() -> dict[str, str]:
    return {key: value for key, value in os.environ.items() if key.lower().endswith("_proxy")}


def _debootstrap(folder: Path) -> None:
    run("debootstrap", "--variant=minbase", "bookworm", folder, debian_mirror())
    for part in ("var/cache/apt", "var/lib/apt/lists", "dev"):
        shutil.rmtree(folder / part)
        (folder / part).mkdir()
    # debootstrap copies these from the machine; logs and caches tell of it as well.
    for name in ("etc/resolv.conf", "etc/hostname", "var/cache/ldconfig/aux-cache"):
        (folder / name).unlink(missing_ok=True)
    for log in (folder / "var/log").rglob("*"):
        if log.is_file():
            log.unlink()
