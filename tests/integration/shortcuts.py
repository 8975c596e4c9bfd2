"""A registry, a cache and runs of `extract` that are compared with those that take no shortcut."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from assembler import cli, oci
from tests.integration import small
from tests.unit import tiny
from tests.unit.fake_registry import FakeRegistry

PYTHON = "opt/tritonserver/backends/python"
LIBRARY = f"{PYTHON}/libtriton_python.so"
MORE = f"{PYTHON}/more.py"


class File(bytes):
    """A file that a failed comparison shows as something to read."""

    def __repr__(self) -> str:
        if self.startswith(b"{"):
            return self.decode()
        return f"<{len(self)} bytes, {oci.sha256(self)}>"


@dataclass(frozen=True)
class Outcome:
    """What a run did. tree: the whole layout, by path. said: lines on standard error."""

    status: int
    said: list[str]
    tree: Mapping[str, bytes]

    @property
    def warnings(self) -> list[str]:
        return [line for line in self.said if line.startswith("warning: ")]

    @property
    def result(self) -> tuple[int, Mapping[str, bytes]]:
        return self.status, self.tree


class Place:
    """Images in a registry, and a cache. `layers`: those of the image `triton:a`."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder, self.cache, self._capsys = folder, folder / "cache", capsys
        self.registry = FakeRegistry()
        self._runs = 0
        files = small.full_files() | {MORE: "x = 1\n"}
        ubuntu = {name: files.pop(name) for name in small.base_files()}
        self.layers = [small.layer(ubuntu), small.layer(files), small.layer({"etc/motd": "hi\n"})]
        self.registry.add("ubuntu:1", [small.layer(small.base_files())])
        self.image("a", *self.layers)
        small.wheel(self.cache / "wheels")

    def image(self, tag: str, *tars: bytes, how: str = "gzip", **config: Any) -> oci.Manifest:
        """Put an image with these layers into the registry; its history says nothing of them."""
        history = [{"created": tiny.CREATED, "created_by": "RUN true"}] * len(tars)
        config = small.CONFIG | {"history": history} | config
        return self.registry.add(f"triton:{tag}", tars, how=how, **config)

    def put(self, tag: str, manifest: Mapping[str, Any]) -> None:
        """Put a manifest as it is."""
        self.registry.put(f"triton:{tag}", oci.OCI_MANIFEST, json.dumps(manifest).encode())

    def words(self, tag: str, *words: str | Path, command: str = "extract") -> list[str]:
        """The command line of a run, but for where its output goes."""
        if "--cache-dir" not in words:
            words = (*words, "--cache-dir", self.cache)
        where = ["--source", self.ref(tag), "--base", f"{self.registry.host}/ubuntu:1"]
        return [command, "24.05", *where, *map(str, words)]

    def ref(self, tag: str) -> str:
        """How the user names an image."""
        return f"{self.registry.host}/triton{tag if tag.startswith('@') else f':{tag}'}"

    def extract(self, tag: str, *words: str | Path) -> Outcome:
        """Run `extract` of triton:`tag`; the registry's requests are those of this run alone."""
        self._runs += 1
        out = self.folder / f"out-{self._runs}"
        self.registry.requests.clear()
        self._capsys.readouterr()
        status = cli.run([*self.words(tag, *words), "--output", str(out)])
        said = self._capsys.readouterr().err.splitlines()
        files = (path for path in out.rglob("*") if path.is_file())
        return Outcome(status, said, {str(p.relative_to(out)): File(p.read_bytes()) for p in files})

    def plain(self, tag: str, *words: str | Path) -> Outcome:
        """Run it without any shortcut."""
        wheels = self.folder / "plain"
        small.wheel(wheels / "wheels")
        return self.extract(tag, "--read-all", "--cache-dir", wheels, *words)

    def index(self, tag: str, *words: str | Path) -> Path:
        """Make a seek index of triton:`tag` in a file."""
        path = self.folder / f"{tag}.index"
        assert cli.run([*self.words(tag, *words, command="index"), "-o", str(path)]) == 0
        return path

    def fresh(self, name: str) -> Path:
        """Another cache, with nothing but the wheel."""
        small.wheel(self.folder / name / "wheels")
        return self.folder / name

    def layers_of(self, found: Outcome) -> list[str]:
        """The diff_ids of the image that a run made."""
        manifests = (json.loads(data) for data in found.tree.values() if b"rootfs" in data[:5000])
        return next(each["rootfs"]["diff_ids"] for each in manifests if "rootfs" in each)

    def blobs(self) -> list[str]:
        """The layers of triton images that were asked for in the last run."""
        return [each.path for each in self.registry.seen("/triton/blobs/")]
