"""A wheel's files as nodes of the new image: unpacked by `installer`, nothing run or compiled."""

from __future__ import annotations

import base64
import io
import os
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import IO, BinaryIO

from installer import install
from installer.destinations import WheelDestination
from installer.records import Hash, RecordEntry, parse_record_file
from installer.scripts import Script
from installer.sources import WheelFile
from installer.utils import Scheme, construct_record_file

from assembler.errors import SelectionError
from assembler.layers import Spool
from assembler.rootfs import Node
from assembler.wheels import Target


class DamagedWheel(SelectionError):
    """A wheel is not what its RECORD says."""


class _Destination(WheelDestination):
    """Turns a wheel's files into nodes of one stage; their bytes go to `spool`."""

    def __init__(self, spool: Spool, target: Target, stage: str, wheel: str) -> None:
        self.spool, self.target, self.stage, self.wheel = spool, target, stage, wheel
        self.nodes: list[Node] = []

    def _add(self, path: str, stream: IO[bytes], executable: bool) -> RecordEntry:
        content = self.spool.write(stream)
        self.nodes.append(
            Node(path, "file", 0o755 if executable else 0o644, 0, 0, "", self.stage,
                 f"wheel {self.wheel}", self.wheel, content=content)
        )  # fmt: skip
        return RecordEntry(path, _hash(content.sha256), content.size)

    def _place(self, scheme: str, path: str) -> str:
        prefix = self.target.folder.split("/lib/python")[0]
        folders = {"scripts": f"{prefix}/bin", "data": prefix, "headers": f"{prefix}/include"}
        return f"{folders.get(scheme, self.target.folder)}/{path}"

    def write_file(
        self,
        scheme: Scheme,
        path: str | os.PathLike[str],
        stream: BinaryIO,
        is_executable: bool,
    ) -> RecordEntry:
        name = os.fspath(path)
        entry = self._add(self._place(scheme, name), stream, is_executable)
        return RecordEntry(self._relative(entry.path), entry.hash_, entry.size)

    def write_script(self, name: str, module: str, attr: str, section: str) -> RecordEntry:
        script = Script(name, module, attr, section)  # type: ignore[arg-type]
        filename, data = script.generate(self.target.interpreter, kind="posix")
        entry = self._add(self._place("scripts", filename), io.BytesIO(data), True)
        return RecordEntry(self._relative(entry.path), entry.hash_, entry.size)

    def _relative(self, path: str) -> str:
        return os.path.relpath(f"/{path}", f"/{self.target.folder}")

    def finalize_installation(
        self, scheme: Scheme, record_file_path: str, records: Iterable[tuple[Scheme, RecordEntry]]
    ) -> None:
        # Paths are relative to the folder of packages already, whatever their scheme.
        stream = construct_record_file(records, lambda _: None)
        self._add(self._place(scheme, record_file_path), stream, False)


def _hash(sha256: str) -> Hash:
    return Hash("sha256", base64.urlsafe_b64encode(bytes.fromhex(sha256)).decode().rstrip("="))


def unpack(wheel: Path, target: Target, stage: str, path: Path) -> list[Node]:
    """Return the nodes that `wheel` makes, their bytes in a new file at `path`.

    Raises DamagedWheel.
    """
    spool = Spool(path)
    destination = _Destination(spool, target, stage, wheel.name)
    try:
        with WheelFile.open(wheel) as source, warnings.catch_warnings():
            # Contents are compared below: they are hashed on their way anyway.
            source.validate_record(validate_contents=False)
            # numpy 1.26's wheel carries byte code, which `installer` leaves out with a warning.
            warnings.simplefilter("ignore", RuntimeWarning)
            install(source, destination, {"INSTALLER": b"assembler\n"})
            _compare(destination.nodes, source.read_dist_info("RECORD"), target.folder)
    except Exception as error:  # the zip, its RECORD or its metadata: one answer to all
        raise DamagedWheel(f"{wheel} is damaged ({error}); delete it and run again") from None
    finally:
        spool.close()
    return destination.nodes


def _compare(nodes: list[Node], record: str, folder: str) -> None:
    """Raise ValueError where a file's digest is not what the wheel's RECORD says."""
    files = {node.path: node.content for node in nodes}
    for path, digest, _ in parse_record_file(record.splitlines()):
        content = files.get(f"{folder}/{path}")
        own = path.endswith(("/RECORD", "/INSTALLER"))
        if content is None or own or not digest.startswith("sha256="):
            continue
        if digest != f"sha256={_hash(content.sha256).value}":
            raise ValueError(f"{path} is not what its RECORD says")
