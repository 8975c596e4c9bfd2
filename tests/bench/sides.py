"""What is compared: docker pull + docker build by hand, and `extract` into Engine and layout."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.bench.engine import Engine
from tests.bench.measure import Cost, disk_usage, measure

ROOT = Path(__file__).parents[2]
HAND = Path(__file__).with_name("Dockerfile.hand")
RELEASE = "24.05"
Figures = dict[str, Any]


@dataclass(frozen=True)
class Bench:
    """What all sides use. wire: compressed bytes of the layers of full and base together."""

    engine: Engine
    full: str
    base: str
    wire: int
    wheels: Path
    work: Path

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


def by_hand(bench: Bench) -> Figures:
    """Measure docker pull of the full image, then docker build, which pulls the base."""
    bench.engine.reset()
    pull, pull_cpu = bench.run(["docker", "pull", "--quiet", bench.full])
    context = bench.work / "context"
    shutil.rmtree(context, ignore_errors=True)
    shutil.copytree(bench.wheels, context)
    shutil.copy(HAND, context / "Dockerfile")
    # The classic builder: it is in every Engine, while BuildKit needs the buildx plugin.
    build, build_cpu = bench.run(
        ["docker", "build", "--quiet", "--no-cache", "--network=none", "--tag=bench:hand",
         f"--build-arg=FULL={bench.full}", f"--build-arg=BASE={bench.base}", str(context)]
    )  # fmt: skip
    return {
        "seconds": pull.seconds + build.seconds,
        "pull_seconds": pull.seconds,
        "build_seconds": build.seconds,
        "cpu_seconds": pull.cpu + pull_cpu + build.cpu + build_cpu,
        "memory": None,
        "bytes_read": bench.wire,
        "written": None,
        "temporary": None,
        "engine_disk": disk_usage(bench.engine.data),
        "image_above_base": bench.engine.size("bench:hand") - bench.base_size(),
    }


def _extract(bench: Bench, *words: str) -> tuple[Cost, float, Figures]:
    cost, engine_cpu = bench.run(
        [sys.executable, "-m", "assembler", "extract", RELEASE, "--source", bench.full,
         "--base", bench.base, "--no-cache", "--tag", "bench:ours", "--json", *words]
    )  # fmt: skip
    result = json.loads(cost.output)
    figures = {
        "seconds": cost.seconds,
        "cpu_seconds": cost.cpu + engine_cpu,
        "own_cpu_seconds": cost.cpu,
        "memory": cost.memory,
        "bytes_read": result["bytes_read"],
        "written": cost.written,
        "temporary": cost.temporary,
        "stages": {stage["name"]: stage["size"] for stage in result["stages"]},
    }
    return cost, engine_cpu, figures


def into_engine(bench: Bench) -> Figures:
    """Measure `extract` into a cold Engine."""
    bench.engine.reset()
    *_, figures = _extract(bench)
    figures["engine_disk"] = disk_usage(bench.engine.data)
    figures["image_above_base"] = bench.engine.size("bench:ours") - bench.base_size()
    return figures


def into_layout(bench: Bench) -> Figures:
    """Measure `extract --output`, an OCI layout folder, which no Engine takes part in."""
    bench.engine.reset()
    output = bench.work / "layout"
    shutil.rmtree(output, ignore_errors=True)
    *_, figures = _extract(bench, "--output", str(output))
    figures["output"] = disk_usage(output)
    figures["image_above_base"] = sum(figures["stages"].values())
    shutil.rmtree(output)
    return figures


SIDES: dict[str, Callable[[Bench], Figures]] = {
    "docker pull + build": by_hand,
    "extract, into the Engine": into_engine,
    "extract --output DIR": into_layout,
}
