"""Tiny real images for tests of sources and destinations, and archives of every kind with them."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import tarfile
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from assembler import oci, zstd
from assembler.destinations import Image
from assembler.oci import LayerBlob

AMD64 = oci.Platform("linux", "amd64")
CREATED = "2024-05-23T01:02:03.123456789Z"
Files = Mapping[str, bytes | str | None]


def layer(*names: str, text: str | None = None) -> bytes:
    """A layer's tar with these files; its content is new with every call unless `text` is given."""
    text = text if text is not None else uuid.uuid4().hex
    return tar({name: f"{name} {text}\n".encode() for name in names})


def tar(files: Files) -> bytes:
    """A tar of files (bytes) and symbolic links (text)."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            if isinstance(content, str):
                info.type, info.linkname = tarfile.SYMTYPE, content
            else:
                info.size = len(content or b"")
            archive.addfile(info, io.BytesIO(content) if isinstance(content, bytes) else None)
    return out.getvalue()


def pack(data: bytes, how: str) -> bytes:
    """The layer as it is stored: "" (plain), gzip, members (gzip of two members) or zstd."""
    if how == "gzip":
        return gzip.compress(data, 1, mtime=0)
    if how == "members":
        half = len(data) // 2
        return gzip.compress(data[:half], 1, mtime=0) + gzip.compress(data[half:], 1, mtime=0)
    return zstd.compress(data) if how == "zstd" else data


def config(tars: list[bytes], **more: Any) -> bytes:
    """A config of these layers, with nanoseconds, history and a key that nobody knows."""
    document = {
        "created": CREATED,
        "architecture": "amd64",
        "os": "linux",
        "config": {
            "Env": ["PATH=/usr/bin", "TRITON_SERVER_VERSION=2.46.0"],
            "Entrypoint": ["/opt/entry"],
            "Cmd": ["sh"],
            "WorkingDir": "/opt",
            "Labels": {"com.nvidia.x": "1 < 2 & 3"},
        },
        "rootfs": {"type": "layers", "diff_ids": [oci.sha256(each) for each in tars]},
        "history": [{"created": CREATED, "created_by": f"ADD {n}"} for n in range(len(tars))],
        "x-unknown": {"b": 1, "a": [2]},
    }
    return json.dumps(document | more, indent=1).encode()


def image(
    folder: Path, tars: list[bytes], how: str = "gzip", annotated: bool = True, **more: Any
) -> Image:
    """An image whose layers lie in `folder`, stored as `how` says."""
    layers = []
    (folder / "sha256").mkdir(parents=True, exist_ok=True)
    for each in tars:
        blob = pack(each, how)
        digest = oci.sha256(blob)
        (folder / "sha256" / digest[7:]).write_bytes(blob)
        ending = {"": "", "zstd": "+zstd"}.get(how, "+gzip")
        descriptor = oci.Descriptor(oci.OCI_LAYER + ending, digest, len(blob))
        layers.append(LayerBlob(oci.sha256(each), descriptor, folder / "sha256" / digest[7:]))
    annotations = {"org.opencontainers.image.created": CREATED} if annotated else {}
    return Image(config(tars, **more), tuple(layers), AMD64, annotations)


def save_before_25(tars: list[bytes], config_bytes: bytes, tags: list[str] | None) -> Files:
    """What `docker save` gave before Docker 25: layers that are equal are links to the first."""
    hexadecimal = oci.sha256(config_bytes)[7:]
    files: dict[str, bytes | str | None] = {}
    paths: list[str] = []
    first: dict[bytes, str] = {}
    for number, each in enumerate(tars):
        folder = hashlib.sha256(b"%d" % number + each).hexdigest()
        files[f"{folder}/VERSION"], files[f"{folder}/json"] = b"1.0", b"{}"
        paths.append(f"{folder}/layer.tar")
        files[paths[-1]] = f"../{first[each]}" if each in first else each
        first.setdefault(each, paths[-1])
    files[f"{hexadecimal}.json"] = config_bytes
    entry = {"Config": f"{hexadecimal}.json", "RepoTags": tags, "Layers": paths}
    return dict(sorted(files.items())) | {"manifest.json": json.dumps([entry]).encode()}


def save_since_25(
    tars: list[bytes], config_bytes: bytes, tags: list[str] | None, how: str = ""
) -> Files:
    """What it gives since: blobs (compressed ones from the containerd store) and both indexes."""
    blobs = [pack(each, how) for each in tars]
    layers = [oci.Descriptor(oci.OCI_LAYER, oci.sha256(b), len(b)).json() for b in blobs]
    manifest = oci.canonical(
        {
            "schemaVersion": 2,
            "mediaType": oci.OCI_MANIFEST,
            "config": oci.Descriptor(
                oci.OCI_CONFIG, oci.sha256(config_bytes), len(config_bytes)
            ).json(),
            "layers": layers,
        }
    )
    everything = {oci.sha256(each)[7:]: each for each in (*blobs, config_bytes, manifest)}
    described = oci.Descriptor(oci.OCI_MANIFEST, oci.sha256(manifest), len(manifest)).json()
    index = {"schemaVersion": 2, "mediaType": oci.OCI_INDEX, "manifests": [described]}
    entry = {
        "Config": f"blobs/sha256/{oci.sha256(config_bytes)[7:]}",
        "RepoTags": tags,
        "Layers": [f"blobs/sha256/{oci.sha256(each)[7:]}" for each in blobs],
    }
    return {f"blobs/sha256/{key}": everything[key] for key in sorted(everything)} | {
        "index.json": json.dumps(index).encode(),
        "manifest.json": json.dumps([entry]).encode(),
        "oci-layout": b'{"imageLayoutVersion":"1.0.0"}',
    }


def read_all(stream: BinaryIO) -> bytes:
    """A `visit` that gives the bytes back."""
    return stream.read()


def contents(source: Any) -> list[bytes]:
    """The tars of all layers of a source, bottom first."""
    found = source.read(range(len(source.diff_ids)), read_all)
    return [found[n] for n in range(len(source.diff_ids))]


@contextmanager
def as_nobody() -> Iterator[None]:
    """Be a user who may do nothing, for the time of a block; the tests run as root in CI."""
    if os.geteuid() != 0:
        yield
        return
    groups = os.getgroups()
    os.setgroups([])
    os.setegid(65534)
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)
        os.setgroups(groups)
