"""Tiny builders for tests: tar entries, layers, images on disk, ELF files."""

from __future__ import annotations

import io
import json
import struct
import tarfile
from collections.abc import Callable, Collection
from typing import Any

from assembler import oci
from assembler.layers import Content, Spool, read_layer
from assembler.streams import LayerStream
from assembler.tree import Tree


def reg(name: str, data: bytes | str = b"", mode: int = 0o644, **pax: str) -> Any:
    """A regular file."""
    data = data.encode() if isinstance(data, str) else data
    return _info(name, tarfile.REGTYPE, mode, pax, len(data)), data


def folder(name: str, mode: int = 0o755) -> Any:
    """A folder."""
    return _info(name, tarfile.DIRTYPE, mode), b""


def sym(name: str, target: str) -> Any:
    """A symbolic link."""
    info = _info(name, tarfile.SYMTYPE, 0o777)
    info.linkname = target
    return info, b""


def hard(name: str, target: str) -> Any:
    """A hard link."""
    info = _info(name, tarfile.LNKTYPE, 0o644)
    info.linkname = target
    return info, b""


def device(name: str) -> Any:
    """A character device."""
    return _info(name, tarfile.CHRTYPE, 0o600), b""


def _info(
    name: str, kind: bytes, mode: int, pax: dict[str, str] | None = None, size: int = 0
) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.mode, info.size = kind, mode, size
    info.pax_headers = dict(pax or {})
    return info


def tar(*entries: Any, form: int = tarfile.PAX_FORMAT) -> bytes:
    """Return a tar of entries, in their order."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as archive:
        for info, data in entries:
            archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


class MemorySource:
    """A `Source` of layers given as tar bytes."""

    def __init__(self, *layers: bytes, config: dict[str, Any] | None = None) -> None:
        self.layers = layers
        self.reference = "memory:image"
        self.digest = None
        self.diff_ids = tuple(oci.sha256(layer) for layer in layers)
        self.sizes = tuple(len(layer) for layer in layers)
        self.digests = (None,) * len(layers)
        document = {
            "os": "linux",
            "architecture": "amd64",
            "created": "2024-05-25T00:00:00Z",
            "config": {},
            "rootfs": {"type": "layers", "diff_ids": list(self.diff_ids)},
            **(config or {}),
        }
        self.config = json.dumps(document).encode()
        self.reads: list[int] = []

    def read(self, indices: Collection[int], visit: Callable[[LayerStream], Any]) -> dict[int, Any]:
        found = {}
        for index in indices:
            self.reads.append(index)
            stream = LayerStream(io.BytesIO(self.layers[index]), f"layer {index + 1}")
            found[index] = visit(stream)
            stream.finish()
        return found

    def copy_layers(self, directory: Any) -> tuple[oci.Descriptor, ...]:
        (directory / "sha256").mkdir(parents=True, exist_ok=True)
        for layer in self.layers:
            (directory / "sha256" / oci.sha256(layer)[7:]).write_bytes(layer)
        return tuple(oci.Descriptor(oci.OCI_LAYER, oci.sha256(x), len(x)) for x in self.layers)

    def close(self) -> None: ...


def merged(tmp_path: Any, *layers: bytes) -> tuple[Tree, list[dict[str, Content]]]:
    """Return the tree of layers, and the contents of every file of each."""
    tree, contents = Tree(), []
    for index, data in enumerate(layers):
        spool = Spool(tmp_path / f"spool-{index}")
        layer = read_layer(io.BytesIO(data), lambda _: True, spool)
        tree.apply(layer, index)
        contents.append(layer.contents)
    return tree, contents


def dump(tree: Tree, contents: list[dict[str, Content]]) -> dict[str, str]:
    """Return a tree as {path: "kind [text or target]"}; folders' modes where not 0755."""
    out = {}
    for path in tree:
        entry = tree[path]
        if not path:
            continue
        if entry.kind == "file":
            out[path] = f"file {contents[entry.layer][entry.member].read().decode()}"
        elif entry.kind == "symlink":
            out[path] = f"symlink {entry.link}"
        else:
            out[path] = entry.kind + ("" if entry.mode == 0o755 else f" {entry.mode:04o}")
    return out


def elf(
    *,
    soname: str = "",
    needed: list[str] | None = None,
    runpath: str = "",
    rpath: str = "",
    interpreter: str = "",
    versions: dict[str, list[str]] | None = None,
    offers: list[str] | None = None,
    machine: int = 0x3E,
) -> bytes:
    """Return a small 64-bit ELF file that says just this to a loader; it has no code."""
    strings, at = bytearray(b"\0"), {}

    def text(value: str) -> int:
        if value not in at:
            at[value] = len(strings)
            strings.extend(value.encode() + b"\0")
        return at[value]

    tags: list[tuple[int, int]] = [(1, text(name)) for name in needed or []]
    for tag, value in ((14, soname), (29, runpath), (15, rpath)):
        if value:
            tags.append((tag, text(value)))
    needs = b""
    for number, (name, wanted) in enumerate((versions or {}).items()):
        last = number == len(versions or {}) - 1
        size = 16 + 16 * len(wanted)
        needs += struct.pack("<HHIII", 1, len(wanted), text(name), 16, 0 if last else size)
        for place, version in enumerate(wanted):
            step = 0 if place == len(wanted) - 1 else 16
            needs += struct.pack("<IHHII", 0, 0, place + 2, text(version), step)
    defines = b""
    for place, version in enumerate(offers or []):
        step = 0 if place == len(offers or []) - 1 else 28
        defines += struct.pack("<HHHHIII", 1, 0, place + 1, 1, 0, 20, step)
        defines += struct.pack("<II", text(version), 0)
    headers = 64 + 56 * 3
    interp = interpreter.encode() + b"\0" if interpreter else b""
    where = {"interp": headers}
    where["strings"] = where["interp"] + len(interp)
    where["needs"] = where["strings"] + len(strings)
    where["defines"] = where["needs"] + len(needs)
    where["dynamic"] = where["defines"] + len(defines)
    tags.append((5, where["strings"]))
    if needs:
        tags += [(0x6FFFFFFE, where["needs"]), (0x6FFFFFFF, len(versions or {}))]
    if defines:
        tags += [(0x6FFFFFFC, where["defines"]), (0x6FFFFFFD, len(offers or []))]
    dynamic = b"".join(struct.pack("<QQ", *tag) for tag in [*tags, (0, 0)])
    total = where["dynamic"] + len(dynamic)
    header = b"\x7fELF\x02\x01\x01" + bytes(9)
    header += struct.pack("<HHIQQQIHHHHHH", 3, machine, 1, 0, 64, 0, 0, 64, 56, 3, 64, 0, 0)

    def segment(kind: int, offset: int, size: int) -> bytes:
        return struct.pack("<IIQQQQQQ", kind, 4, offset, offset, offset, size, size, 1)

    segments = segment(1, 0, total) + segment(2, where["dynamic"], len(dynamic))
    segments += segment(3 if interp else 0, where["interp"], len(interp))
    return header + segments + interp + bytes(strings) + needs + defines + dynamic
