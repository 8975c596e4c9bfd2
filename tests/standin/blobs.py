"""OCI layouts written by hand: layers from folders and from generated entries, gzip blobs."""

from __future__ import annotations

import hashlib
import io
import json
import os
import stat
import tarfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from isal import isal_zlib

EPOCH = 1716595200  # 2024-05-25: any fixed time will do
CHUNK = 1 << 20


class Blobs:
    """The blobs of a layout folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "blobs" / "sha256"
        self.folder.mkdir(parents=True, exist_ok=True)

    def put(self, data: bytes, media_type: str) -> dict[str, Any]:
        """Write a small blob and return its descriptor."""
        digest = hashlib.sha256(data).hexdigest()
        (self.folder / digest).write_bytes(data)
        return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(data)}

    def layer(self, fill: Callable[[tarfile.TarFile], None]) -> dict[str, Any]:
        """Write a layer that `fill` puts entries into; return diff_id, bytes and descriptor."""
        temporary = self.folder / "writing"
        with temporary.open("wb") as file:
            sink = _Sink(file)
            with tarfile.open(fileobj=sink, mode="w|", format=tarfile.PAX_FORMAT) as tar:
                fill(tar)
            sink.close()
        digest = sink.digest.hexdigest()
        temporary.replace(self.folder / digest)
        return {
            "diff_id": f"sha256:{sink.diff_id.hexdigest()}",
            "bytes": sink.count,
            "descriptor": {
                "mediaType": "application/vnd.oci.image.layer.v1.tar+gzip",
                "digest": f"sha256:{digest}",
                "size": sink.written,
            },
        }


class _Sink(io.RawIOBase):
    def __init__(self, file: IO[bytes]) -> None:
        self.file = file
        self.diff_id, self.digest = hashlib.sha256(), hashlib.sha256()
        self.count = self.written = 0
        self._gzip = isal_zlib.compressobj(1, zlib.DEFLATED, 31)

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self.diff_id.update(data)
        self.count += len(data)
        self._out(self._gzip.compress(data))
        return len(data)

    def _out(self, data: bytes) -> None:
        self.digest.update(data)
        self.written += len(data)
        self.file.write(data)

    def close(self) -> None:
        if not self.closed:
            self._out(self._gzip.flush())
        super().close()


def add(tar: tarfile.TarFile, name: str, data: bytes | None = None, **given: Any) -> None:
    """Add a file (data), a folder (name ends in /) or a link (link=target)."""
    info = tarfile.TarInfo(name.rstrip("/"))
    info.mtime = EPOCH
    info.uid, info.gid = given.get("owner", (0, 0))
    if name.endswith("/"):
        info.type, info.mode = tarfile.DIRTYPE, given.get("mode", 0o755)
        tar.addfile(info)
    elif "link" in given:
        info.type, info.linkname, info.mode = tarfile.SYMTYPE, given["link"], 0o777
        tar.addfile(info)
    else:
        data = data or b""
        info.size, info.mode = len(data), given.get("mode", 0o644)
        tar.addfile(info, io.BytesIO(data))


def add_tree(tar: tarfile.TarFile, folder: Path) -> None:
    """Add a folder of this machine, an overlay's upper folder with its whiteouts included."""
    links: dict[tuple[int, int], str] = {}
    for top, folders, files in os.walk(folder):
        folders.sort()
        here = Path(top)
        for name in sorted(folders + files):
            path = here / name
            inside = str(path.relative_to(folder))
            status = path.lstat()
            if stat.S_ISCHR(status.st_mode) and status.st_rdev == 0:
                add(tar, str(Path(inside).parent / f".wh.{name}"))
                continue
            if not (
                stat.S_ISREG(status.st_mode)
                or stat.S_ISDIR(status.st_mode)
                or stat.S_ISLNK(status.st_mode)
            ):
                continue
            info = tarfile.TarInfo(inside)
            info.mode, info.mtime = stat.S_IMODE(status.st_mode), EPOCH
            info.uid, info.gid = status.st_uid, status.st_gid
            if stat.S_ISDIR(status.st_mode):
                info.type = tarfile.DIRTYPE
                tar.addfile(info)
                if _opaque(path):
                    add(tar, f"{inside}/.wh..wh..opq")
            elif stat.S_ISLNK(status.st_mode):
                info.type, info.linkname = tarfile.SYMTYPE, str(path.readlink())
                tar.addfile(info)
            elif status.st_nlink > 1 and (status.st_dev, status.st_ino) in links:
                info.type = tarfile.LNKTYPE
                info.linkname = links[status.st_dev, status.st_ino]
                tar.addfile(info)
            else:
                links[status.st_dev, status.st_ino] = inside
                info.size = status.st_size
                with path.open("rb") as file:
                    tar.addfile(info, file)


def _opaque(path: Path) -> bool:
    try:
        return os.getxattr(path, "trusted.overlay.opaque") == b"y"
    except OSError:
        return False


def write_image(
    folder: Path,
    layers: list[dict[str, Any]],
    config: dict[str, Any],
    history: list[str],
    tag: str,
    *,
    index: bool,
) -> str:
    """Write config, manifest and index.json of a layout; return the digest that the tag names.

    index: put the manifest into an image index beside an attestation, as BuildKit does.
    """
    blobs = Blobs(folder)
    document = {
        "architecture": "amd64",
        "os": "linux",
        "created": "2024-05-25T00:00:00.123456789Z",
        **config,
        "rootfs": {"type": "layers", "diff_ids": [layer["diff_id"] for layer in layers]},
        "history": [{"created": "2024-05-25T00:00:00Z", "created_by": text} for text in history],
    }
    oci = "application/vnd.oci.image."
    manifest = {
        "schemaVersion": 2,
        "mediaType": f"{oci}manifest.v1+json",
        "config": blobs.put(json.dumps(document).encode(), f"{oci}config.v1+json"),
        "layers": [layer["descriptor"] for layer in layers],
    }
    top = blobs.put(json.dumps(manifest).encode(), f"{oci}manifest.v1+json")
    if index:
        empty = blobs.put(b"{}", "application/vnd.in-toto+json")
        attestation = {
            "schemaVersion": 2,
            "mediaType": f"{oci}manifest.v1+json",
            "config": blobs.put(
                json.dumps({"architecture": "unknown", "os": "unknown", "config": {},
                            "rootfs": {"type": "layers", "diff_ids": [empty["digest"]]}}).encode(),
                f"{oci}config.v1+json",
            ),
            "layers": [empty],
        }  # fmt: skip
        other = blobs.put(json.dumps(attestation).encode(), f"{oci}manifest.v1+json")
        entries = [
            {
                **other,
                "platform": {"os": "unknown", "architecture": "unknown"},
                "annotations": {
                    "vnd.docker.reference.type": "attestation-manifest",
                    "vnd.docker.reference.digest": top["digest"],
                },
            },
            {**top, "platform": {"os": "linux", "architecture": "amd64"}},
        ]
        text = {"schemaVersion": 2, "mediaType": f"{oci}index.v1+json", "manifests": entries}
        top = blobs.put(json.dumps(text).encode(), f"{oci}index.v1+json")
    top["annotations"] = {"org.opencontainers.image.ref.name": tag}
    (folder / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    (folder / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [top]}))
    return str(top["digest"])
