"""What a run of `extract` or `plan` is asked to do."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from assembler import oci, resources
from assembler.papers.lock import Lock
from assembler.reference import ImageName
from assembler.sources.opening import Access

if TYPE_CHECKING:
    from assembler.bundle.bundled import BundledImage


@dataclass(frozen=True)
class Options:
    """What the command line says; README and --help tell what each means.

    backends, keep: each once and sorted, since their order on the command line means nothing.
    platform: the one to make, or the first of `platforms`.
    """

    release: str | None = None
    backends: tuple[str, ...] = ("onnxruntime", "python")
    source: str | None = None
    base: str | None = None
    tags: tuple[str, ...] = ()
    output: Path | None = None
    push: tuple[str, ...] = ()
    multi_platform: bool = False
    numpy: str | None = None
    platform: oci.Platform = field(default_factory=lambda: oci.Platform("linux", "amd64"))
    platforms: tuple[oci.Platform, ...] = ()
    builder: str = "direct"
    keep: tuple[str, ...] = ()
    stages: tuple[Path, ...] = ()
    dockerfile: Path | None = None
    cache: Path | None = None
    read_all: bool = False
    make_index: bool = False
    index: str | None = None
    cache_from: tuple[ImageName, ...] = ()
    cache_to: tuple[ImageName, ...] = ()
    record: Path | None = None
    lock: Path | None = None
    locked: Lock | None = None
    verify: bool = False
    bundle: BundledImage | None = None
    access: Access = field(default_factory=Access)

    @property
    def reads_all(self) -> bool:
        """Whether every layer is to be read, whatever is known of it."""
        return self.read_all or self.make_index

    def resource(self, name: str) -> Path:
        """Return the path of `stages`, `patches` or `Dockerfile.final`: a bundle has its own."""
        return self.bundle.folder / name if self.bundle else resources.path(name)

    @property
    def compress(self) -> bool:
        """Whether layers are gzip: the Engine alone would have to inflate them again."""
        return self.output is not None or bool(self.push)

    @property
    def into_engine(self) -> bool:
        """Whether the Engine is to have the image: what is pushed alone, or written, is not."""
        return self.output is None and (not self.push or bool(self.tags))

    @property
    def papers(self) -> bool:
        """Whether documents are made: an Engine has no place for them, and they cost time."""
        return self.compress or self.record is not None

    def default_tag(self, release: str) -> str:
        """Return the name of the result where none is given."""
        return f"tritonserver:{release}-{'-'.join(self.backends)}-cpu"
