"""What all sides of the bench use."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.bench.engine import Engine
from tests.bench.measure import Cost, measure

ROOT = Path(__file__).parents[2]
RELEASE = "24.05"
Figures = dict[str, Any]


@dataclass(frozen=True)
class Bench:
    """full, base: names in the registry. wire: compressed bytes of the layers of both together.

    wheels: a folder with the wheels that pip finds. index: a seek index of the full image.
    """

    engine: Engine
    full: str
    base: str
    wire: int
    wheels: Path
    work: Path
    index: Path

    def run(self, command: list[str]) -> tuple[Cost, float]:
        """Measure a command; return its cost and the Engine's CPU seconds meanwhile."""
        temporary = self.work / "tmp"
        shutil.rmtree(temporary, ignore_errors=True)
        env = self.engine.env | {
            "DOCKER_BUILDKIT": "0",
            "PIP_NO_INDEX": "1",
            "PIP_FIND_LINKS": str(self.wheels),
        }
        before = self.engine.cpu_seconds()
        cost = measure(command, env, ROOT, temporary)
        return cost, self.engine.cpu_seconds() - before

    def base_size(self) -> int:
        """Unpacked bytes of the base in the Engine."""
        self.engine.docker("pull", "--quiet", self.base)
        return self.engine.size(self.base)

    def folder(self, name: str) -> Path:
        """Return an empty folder's path; the folder is not there."""
        path = self.work / name
        shutil.rmtree(path, ignore_errors=True)
        return path
