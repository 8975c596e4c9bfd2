"""The table of a run, and whether the run reaches what it must."""

from __future__ import annotations

import statistics
from typing import Any

from rich.console import Console
from rich.table import Table

MB = 1_000_000
HAND, ENGINE, LAYOUT = "docker pull + build", "extract, into the Engine", "extract --output DIR"
FASTER, MEMORY, SLIM, HELP = 5.0, 250 * MB, 245 * MB, 0.2  # times, bytes, bytes, seconds
_ROWS = (
    ("seconds", "seconds"),
    ("cpu_seconds", "CPU seconds, Engine's too"),
    ("own_cpu_seconds", "CPU seconds of our own"),
    ("memory", "peak memory, MB"),
    ("bytes_read", "read over the wire, MB"),
    ("written", "written to disk, MB"),
    ("temporary", "peak of TMPDIR, MB"),
    ("engine_disk", "on the Engine's disk, MB"),
    ("image_above_base", "image above base, MB"),
)


def medians(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the median of each number in equal dicts; of anything else, the last."""
    found: dict[str, Any] = {}
    for key, value in runs[-1].items():
        numbers = isinstance(value, (int, float))
        found[key] = statistics.median(run[key] for run in runs) if numbers else value
    return found


def table(report: dict[str, Any]) -> None:
    """Print the medians: one row for each side."""
    about = f"full image of {report['size'] / 1e9:g} GB, medians of {report['runs']}, cold"
    shown = Table("", title=about)
    sides = report["medians"]
    for name in sides:
        shown.add_column(name, justify="right")
    for key, heading in _ROWS:
        shown.add_row(heading, *(_cell(key, side.get(key)) for side in sides.values()))
    hand = sides[HAND]["seconds"]
    shown.add_row("times as fast", *(f"{hand / side['seconds']:.1f}" for side in sides.values()))
    console = Console()
    console.print(shown)
    console.print(
        f"--help {report['help_seconds']:.3f} s; docker imported without Engine: "
        f"{report['docker_imported']}"
    )


def _cell(key: str, value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.1f}" if "seconds" in key else f"{value / MB:.0f}"


def failures(report: dict[str, Any]) -> list[str]:
    """Return a line for each bound that the run does not keep."""
    sides = report["medians"]
    hand, ours = sides[HAND], sides[ENGINE]
    times = hand["seconds"] / ours["seconds"]
    checks = [(times >= FASTER, f"{times:.2f} times as fast into the Engine, not {FASTER:g}")]
    for name in (ENGINE, LAYOUT):
        side = sides[name]
        memory, above = side["memory"], side["image_above_base"]
        checks += [
            (memory <= MEMORY, f"{name}: {memory / MB:.0f} MB of memory, over {MEMORY // MB}"),
            (above <= SLIM, f"{name}: {above / MB:.1f} MB above the base, over {SLIM // MB}"),
        ]
    taken = report["help_seconds"]
    checks += [
        (taken < HELP, f"--help takes {taken:.3f} s, not under {HELP:g}"),
        (not report["docker_imported"], "docker is imported without an Engine"),
    ]
    return [line for kept, line in checks if not kept]
