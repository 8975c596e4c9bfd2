"""How soon the command line answers, and what it imports."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time

from tests.bench.bench import RELEASE, ROOT, Bench


def help_seconds(times: int = 10) -> float:
    """Median seconds of `python -m assembler --help`."""
    taken = []
    for _ in range(times):
        start = time.perf_counter()
        subprocess.run(
            [sys.executable, "-m", "assembler", "--help"], cwd=ROOT, check=True,
            stdout=subprocess.DEVNULL,
        )  # fmt: skip
        taken.append(time.perf_counter() - start)
    return statistics.median(taken)


_PROBE = """
import runpy, sys
sys.argv = ["assembler", *sys.argv[1:]]
try:
    runpy.run_module("assembler", run_name="__main__")
except SystemExit as end:
    if end.code:
        raise
print("docker" in sys.modules)
"""


def docker_imported(bench: Bench) -> bool:
    """Tell whether `extract --output` of images in a registry imports `docker`."""
    output = bench.work / "probe"
    cost, _ = bench.run(
        [sys.executable, "-c", _PROBE, "extract", RELEASE, "--source", bench.full,
         "--base", bench.base, "--no-cache", "--output", f"{output}.tar"]
    )  # fmt: skip
    output.with_suffix(".tar").unlink()
    return cost.output.split()[-1] == "True"
