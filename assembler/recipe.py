"""What to make, out of whichever images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from assembler import patches, wheels
from assembler.caching.cache import Cache
from assembler.stages import Stage


@dataclass(frozen=True)
class Recipe:
    """What to make: stages in layer order, names to --keep, patches, pins, and the release.

    cache: keeps wheels. mtime: of every file, in seconds since 1970. pins: wheels by name, where
    a lock says which.
    """

    release: str
    stages: list[Stage]
    keep: list[str]
    patches: list[patches.Patch]
    numpy: str | None
    cache: Cache
    offline: bool
    mtime: int
    pins: Mapping[str, wheels.Pin] = field(default_factory=dict)
