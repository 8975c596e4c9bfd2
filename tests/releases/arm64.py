"""24.05 for arm64: NVIDIA's real aarch64 binaries over real Debian packages for arm64.

Nothing of arm64 is run: apt fetches for another architecture with folders of its own, and the
packages are laid down without their scripts; what those would make (users, certificates) is made
here.
"""

from __future__ import annotations

import io
import json
import posixpath
import subprocess
import tarfile
import tempfile
from collections.abc import Iterable
from pathlib import Path

from tests.releases import real
from tests.releases.parts import ARM64
from tests.standin import server, tars
from tests.standin.blobs import OCI, Blobs
from tests.standin.images import write_image
from tests.standin.settings import BASE, FULL
from tests.standin.store import Store, run

RELEASE = "24.05"
_BASE = "base-files base-passwd bash coreutils dpkg libc-bin libstdc++6 libssl3 zlib1g"
_FULL = "ca-certificates libarchive13 libb64-0d libcurl4 libnuma1 libpython3.11 libxml2 python3-pip"
_MERGED = ("bin", "lib", "sbin")


def packages(store: Store, names: str) -> list[Path]:
    """Return the .deb files of Debian packages and of all that they depend on."""

    def fetch(folder: Path) -> None:
        for part in ("state/lists/partial", "cache/archives/partial"):
            (folder / part).mkdir(parents=True)
        (folder / "status").touch()
        settings = {
            "APT::Architecture": "arm64", "APT::Architectures": "arm64",
            "Dir::State": folder / "state", "Dir::State::status": folder / "status",
            "Dir::Cache": folder / "cache", "APT::Sandbox::User": "root",
        }  # fmt: skip
        apt = ["apt-get", "-q", *(f"-o{key}={value}" for key, value in settings.items())]
        run(*apt, "update")
        run(*apt, "--yes", "--no-install-recommends", "--download-only", "install", *names.split())

    folder = store.once("arm64-debs", names, fetch)
    return sorted((folder / "cache" / "archives").glob("*.deb"))


def _output(*command: str | Path) -> bytes:
    return subprocess.run([str(word) for word in command], check=True, capture_output=True).stdout


def _name(deb: Path) -> str:
    return deb.name.partition("_")[0]


def _lay(tar: tarfile.TarFile, debs: Iterable[Path]) -> None:
    """Add what packages hold, with /usr merged, and their lists."""
    seen: set[str] = set()
    for deb in debs:
        listed = []
        with tarfile.open(fileobj=io.BytesIO(_output("dpkg-deb", "--fsys-tarfile", deb))) as given:
            for member in given:
                path = member.name.removeprefix("./").strip("/")
                listed.append(f"/{path or '.'}")
                if path.partition("/")[0] in _MERGED:
                    path = f"usr/{path}"
                if not path or (member.isdir() and path in seen):
                    continue
                seen.add(path)
                member.name, member.mtime, member.pax_headers = path, tars.EPOCH, {}
                if member.islnk():
                    member.linkname = posixpath.normpath(member.linkname)
                tar.addfile(member, given.extractfile(member) if member.isreg() else None)
        text = "".join(f"{line}\n" for line in listed)
        tars.add(tar, f"var/lib/dpkg/info/{_name(deb)}.list", text.encode())


def _status(tar: tarfile.TarFile, debs: Iterable[Path]) -> None:
    text = ""
    for deb in debs:
        head, _, rest = _output("dpkg-deb", "--field", deb).decode().partition("\n")
        text += f"{head}\nStatus: install ok installed\n{rest.strip()}\n\n"
    tars.add(tar, "var/lib/dpkg/status", text.encode())


def _base(tar: tarfile.TarFile, debs: list[Path]) -> None:
    for folder in _MERGED:
        tars.add_link(tar, folder, f"usr/{folder}")
    _lay(tar, debs)
    _status(tar, debs)
    for name, text in {"passwd": "root:x:0:0:root:/root:/bin/bash", "group": "root:x:0:"}.items():
        tars.add(tar, f"etc/{name}", f"{text}\n".encode())


def _triton(tar: tarfile.TarFile, wheel: Path) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        files = real.unpack(wheel, Path(scratch), RELEASE)
        writer = server.Writer(tar)
        server.put_server(writer, files.root, "2.46.0")
        server.put_python(writer, files.root, files.stub)
        real.put_libraries(tar, files.root / "lib", ARM64)
    for path in sorted((server.HERE / "entrypoint").glob("[0-9]*")):
        tars.add(tar, f"opt/nvidia/entrypoint.d/{path.name}", path.read_bytes(), mode=0o755)
    script = (server.HERE / "entrypoint" / "nvidia_entrypoint.sh").read_bytes()
    tars.add(tar, "opt/nvidia/nvidia_entrypoint.sh", script, mode=0o755)
    tars.add(tar, "etc/ssl/certs/ca-certificates.crt", b"made by update-ca-certificates\n")


def build(work: Path, full: Path, base: Path) -> None:
    """Write the full image and its base to these folders."""
    store = Store(work / "standin" / "parts")
    below = packages(store, _BASE)
    known = {_name(deb) for deb in below}
    above = [d for d in packages(store, f"{_BASE} {_FULL}") if _name(d) not in known]
    wheel = real.wheel(work, RELEASE, "aarch64")

    def over(tar: tarfile.TarFile) -> None:
        _lay(tar, above)
        _status(tar, [*below, *above])

    settings = FULL | {"Env": [f"{k}={v}" for k, v in real.environment(RELEASE).items()]}
    for layout in (full, base):
        blobs = Blobs(layout)
        layers = [blobs.layer(lambda tar: _base(tar, below))]
        if layout is full:
            layers += [blobs.layer(over), blobs.layer(lambda tar: _triton(tar, wheel))]
        history = [(f"layer {number}", True) for number, _ in enumerate(layers)]
        write_image(layout, layers, settings if layout is full else BASE, history,
                    f"{RELEASE}-py3", index=True, architecture="arm64")  # fmt: skip


def join(layout: Path, *others: Path) -> None:
    """Make the image of a layout one for several platforms, those of the other layouts."""
    entries = []
    for each in (layout, *others):
        (top,) = json.loads((each / "index.json").read_text())["manifests"]
        blobs = each / "blobs" / "sha256"
        entries += json.loads((blobs / top["digest"][7:]).read_text())["manifests"]
        for blob in blobs.iterdir():
            target = layout / "blobs" / "sha256" / blob.name
            if not target.exists():
                target.hardlink_to(blob)
    kind = f"{OCI}index.v1+json"
    document = {"schemaVersion": 2, "mediaType": kind, "manifests": entries}
    index = {"schemaVersion": 2, "manifests": [Blobs(layout).put(document, kind)]}
    (layout / "index.json").write_text(json.dumps(index))
