"""What a run of `extract` or `plan` is asked to do."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from assembler import oci
from assembler.sources.opening import Access


@dataclass(frozen=True)
class Options:
    """What the command line says; README and --help tell what each means.

    platform: the one to make, or the first of `platforms`.
    """

    release: str | None = None
    backends: tuple[str, ...] = ("onnxruntime", "python")
    source: str | None = None
    base: str | None = None
    tags: tuple[str, ...] = ()
    output: Path | None = None
    numpy: str | None = None
    platform: oci.Platform = field(default_factory=lambda: oci.Platform("linux", "amd64"))
    platforms: tuple[oci.Platform, ...] = ()
    builder: str = "direct"
    keep: tuple[str, ...] = ()
    stages: tuple[Path, ...] = ()
    dockerfile: Path | None = None
    cache: Path | None = None
    record: Path | None = None
    access: Access = field(default_factory=Access)
