"""Images of some kB that `extract` makes a slim image of, as OCI layouts; what tests break."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from assembler import oci
from tests.unit import tiny
from tests.unit.building import elf, folder, reg, sym, tar

LOADER = "/lib64/ld-linux-x86-64.so.2"
LIBC = "lib/x86_64-linux-gnu/libc.so.6"
GLIBC = ["GLIBC_2.2.5", "GLIBC_2.34", "GLIBC_2.35"]
Files = Mapping[str, Any]

ENV = ["PATH=/usr/bin", "NVIDIA_TRITON_SERVER_VERSION=24.05", "TRITON_SERVER_VERSION=2.46.0"]
CONFIG = {"config": {"Env": ENV, "Entrypoint": ["/opt/nvidia/nvidia_entrypoint.sh"]}}


def status(*packages: str) -> str:
    """A package database's text, of packages like "name" or "name version"."""
    return "".join(
        f"Package: {name}\nStatus: install ok installed\nArchitecture: amd64\n"
        f"Version: {version or '1'}\n\n"
        for name, _, version in (package.partition(" ") for package in packages)
    )


def library(soname: str, **more: Any) -> bytes:
    """A shared library that wants libc."""
    return elf(soname=soname, needed=["libc.so.6"], versions={"libc.so.6": ["GLIBC_2.34"]}, **more)


def base_files() -> dict[str, Any]:
    """An ubuntu."""
    return {
        "etc/passwd": "root:x:0:0:root:/root:/bin/sh\n",
        "etc/group": "root:x:0:\n",
        "var/lib/dpkg/status": status("libc6", "bash"),
        LIBC: elf(soname="libc.so.6", offers=GLIBC),
        LOADER[1:]: elf(soname="ld-linux-x86-64.so.2"),
        "bin/sh": elf(needed=["libc.so.6"], interpreter=LOADER),
    }


def full_files() -> dict[str, Any]:
    """A Triton."""
    server = elf(
        needed=["libtritonserver.so", "libc.so.6"],
        interpreter=LOADER,
        runpath="$ORIGIN/../lib",
        versions={"libc.so.6": ["GLIBC_2.34"]},
    )
    opt = "opt/tritonserver"
    return base_files() | {
        "var/lib/dpkg/status": status("libc6", "bash", "python3", "ca-certificates"),
        "var/lib/dpkg/info/python3.list": "/usr/bin/python3\n/usr/bin/python3.10\n",
        "var/lib/dpkg/info/ca-certificates.list": "/etc/ca-certificates.conf\n",
        "etc/ca-certificates.conf": "x\n",
        "etc/ssl/certs/ca-certificates.crt": "x\n",
        "usr/bin/python3": ("python3.10",),
        "usr/bin/python3.10": elf(needed=["libc.so.6"], interpreter=LOADER),
        "usr/lib/python3/dist-packages/README": "x\n",
        "usr/local/bin/pip": "#!/usr/bin/python3\n",
        f"{opt}/bin/tritonserver": server,
        f"{opt}/lib/libtritonserver.so": library("libtritonserver.so"),
        f"{opt}/TRITON_VERSION": "2.46.0\n",
        "opt/nvidia/nvidia_entrypoint.sh": "#!/bin/sh\n",
        "opt/nvidia/entrypoint.d/10-banner.sh": "echo\n",
        f"{opt}/backends/onnxruntime/libtriton_onnxruntime.so": library("libtriton_onnxruntime.so"),
        f"{opt}/backends/python/libtriton_python.so": library("libtriton_python.so"),
    }


def layer(files: Files) -> bytes:
    """A layer's tar; a tuple of one text is a symbolic link, None takes the file out."""
    folders = sorted({p.as_posix() for name in files for p in Path(name).parents if p.name})
    entries = [folder(name) for name in folders]
    for name, content in files.items():
        if content is not None:
            link = isinstance(content, tuple)
            entries.append(sym(name, content[0]) if link else reg(name, content, 0o755))
    return tar(*entries)


def layout(where: Path, *tars: bytes, tag: str = "", **config: Any) -> Path:
    """Write an OCI layout of one image with these layers, and return its folder."""
    blobs = where / "blobs" / "sha256"
    blobs.mkdir(parents=True)

    def put(media_type: str, data: bytes) -> oci.Json:
        (blobs / hashlib.sha256(data).hexdigest()).write_bytes(data)
        return oci.Descriptor(media_type, oci.sha256(data), len(data)).json()

    manifest = {
        "schemaVersion": 2,
        "mediaType": oci.OCI_MANIFEST,
        "config": put(oci.OCI_CONFIG, tiny.config(list(tars), **(CONFIG | config))),
        "layers": [put(f"{oci.OCI_LAYER}+gzip", tiny.pack(each, "gzip")) for each in tars],
    }
    described = put(oci.OCI_MANIFEST, json.dumps(manifest).encode())
    if tag:
        described["annotations"] = {"org.opencontainers.image.ref.name": tag}
    index = {"schemaVersion": 2, "mediaType": oci.OCI_INDEX, "manifests": [described]}
    (where / "index.json").write_text(json.dumps(index))
    (where / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    return where


def full(where: Path, changes: Files | None = None, **config: Any) -> Path:
    """Write the Triton, with changes."""
    return layout(where, layer(full_files() | dict(changes or {})), **config)


def base(where: Path, changes: Files | None = None, **config: Any) -> Path:
    """Write the ubuntu, with changes."""
    return layout(where, layer(base_files() | dict(changes or {})), **config)


def wheel(folder: Path, version: str = "1.26.4") -> Path:
    """Write a numpy that holds next to nothing, where `extract` looks before it asks pip."""
    folder.mkdir(parents=True, exist_ok=True)
    info = f"numpy-{version}.dist-info"
    files = {
        "numpy/__init__.py": b"",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: numpy\nVersion: {version}\n".encode(),
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = ""
    for name, data in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).decode().rstrip("=")
        record += f"{name},sha256={digest},{len(data)}\n"
    files[f"{info}/RECORD"] = f"{record}{info}/RECORD,,\n".encode()
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, data in files.items():
            archive.writestr(zipfile.ZipInfo(name), data)
    path = folder / f"numpy-{version}-py3-none-any.whl"
    path.write_bytes(out.getvalue())
    return path
