"""Where the data lies (stages, patches, …): in a checkout at the top, in a wheel inside."""

from __future__ import annotations

from pathlib import Path

_HERE = Path(__file__).resolve().parent


def path(name: str) -> Path:
    """Return the path of `stages`, `patches`, `Dockerfile.final` or `releases.toml`."""
    inside = _HERE / "share" / name
    return inside if inside.exists() else _HERE.parent / name
