"""What is found of an image in an archive or layout, before any layer of it is read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from assembler.errors import SourceError, UsageError
from assembler.oci import Platform
from assembler.reference import ImageName


@dataclass(frozen=True)
class StoredLayer:
    """A layer's path inside the archive, the digest of the blob if known, size and diff_id."""

    path: str
    digest: str | None
    size: int
    diff_id: str


@dataclass(frozen=True)
class Found:
    """The image that was meant. digest: of its manifest, where it has one."""

    digest: str | None
    config: bytes
    layers: tuple[StoredLayer, ...]


def check_platform(config: Mapping[str, Any], platform: Platform, where: str) -> None:
    """Raise SourceError unless an image config fits `platform`."""
    if not platform.accepts(config):
        parts = (config.get(key) for key in ("os", "architecture", "variant"))
        there = "/".join(str(part) for part in parts if part) or "no platform"
        raise SourceError(
            f"{where} has no image for {platform}; it has {there} (choose one with --platform)"
        )


def familiar(name: str) -> str:
    """Return an image name as docker shows it; what is no image name stays as it is."""
    try:
        return ImageName.parse(name).familiar
    except UsageError:
        return name


def listed(names: list[str]) -> str:
    """Return the names of an archive's images for a message."""
    return ", ".join(sorted(set(names))) or "none"


def several(where: str, names: list[str]) -> SourceError:
    """Return the error for an archive of several images where none was named."""
    return SourceError(
        f"{where} has several images: say which by adding :NAME; it has {listed(names)}"
    )
