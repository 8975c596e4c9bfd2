"""The table of a run, and whether the run reaches what it must."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from typing import Any

from tests.bench.link import RATES
from tests.bench.sides import (
    BACKEND,
    ENGINE,
    HAND,
    INDEX_ENGINE,
    INDEX_LAYOUT,
    LAYOUT,
    NUMPY,
    UNCHANGED,
)

MB = 1_000_000
MEMORY, SLIM, HELP = 250 * MB, 245 * MB, 0.2  # bytes, bytes, seconds
# Times as fast as docker pull and build: (side, GB of the full image at the least, times).
FASTER = (
    (ENGINE, 4, 5.0),
    (ENGINE, 4, 8.0),
    (LAYOUT, 4, 12.0),
    (INDEX_LAYOUT, 4, 25.0),
    (INDEX_LAYOUT, 16, 80.0),
)
SECONDS = ((UNCHANGED, 1.0), (NUMPY, 3.0))
COLUMNS = (
    ("seconds", "seconds"),
    ("cpu_seconds", "CPU seconds"),
    ("bytes_read", "read, MB"),
    ("memory", "memory, MB"),
    ("written", "written, MB"),
)


def medians(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the median of each number in equal dicts; of anything else, the last."""
    found: dict[str, Any] = {}
    for key, value in runs[-1].items():
        numbers = isinstance(value, (int, float))
        found[key] = statistics.median(run[key] for run in runs) if numbers else value
    return found


def markdown(report: dict[str, Any]) -> str:
    """Return the medians as Markdown: one row for each side, one table for each link."""
    return "\n\n".join(_table(report, name, sides) for name, sides in _links(report))


def _links(report: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    yield "loopback", report["medians"]
    yield from report["links"].items()


def _table(report: dict[str, Any], link: str, sides: dict[str, Any]) -> str:
    about = f"{report['size'] / 1e9:g} GB over {link}"
    lines = [
        f"| {about} | " + " | ".join(heading for _, heading in COLUMNS) + " | times as fast |",
        "|---" * (len(COLUMNS) + 2) + "|",
    ]
    for name, side in sides.items():
        cells = [_cell(key, side.get(key)) for key, _ in COLUMNS]
        times = f"{sides[HAND]['seconds'] / side['seconds']:.1f}" if HAND in sides else ""
        lines.append(f"| {name} | {' | '.join(cells)} | {times} |")
    return "\n".join(lines)


def _cell(key: str, value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.1f}" if "seconds" in key else f"{value / MB:.0f}"


def failures(report: dict[str, Any]) -> list[str]:
    """Return a line for each bound that the run does not keep."""
    return [line for kept, line in _checks(report) if not kept]


def _checks(report: dict[str, Any]) -> Iterator[tuple[bool, str]]:
    sides, size = report["medians"], report["size"] / 1e9
    for name, least, factor in FASTER:
        if (
            size >= least
            and {name, HAND} <= sides.keys()
            and (factor < 25 or (least > 4) == (size > 4))
        ):
            times = sides[HAND]["seconds"] / sides[name]["seconds"]
            yield times >= factor, f"{name}: {times:.1f} times as fast, not {factor:g}"
    for name, seconds in SECONDS:
        if name in sides:
            taken = sides[name]["seconds"]
            yield taken < seconds, f"{name}: {taken:.2f} s, not under {seconds:g}"
    for name in (ENGINE, LAYOUT, INDEX_LAYOUT, INDEX_ENGINE, UNCHANGED, NUMPY, BACKEND):
        side = sides.get(name)
        if side is None:
            continue
        memory, above = side["memory"], side["image_above_base"]
        yield memory <= MEMORY, f"{name}: {memory / MB:.0f} MB of memory, over {MEMORY // MB}"
        yield above <= SLIM, f"{name}: {above / MB:.1f} MB above the base, over {SLIM // MB}"
        whole = above + report["base_size"]
        yield (
            side["written"] <= 1.5 * whole,
            f"{name}: {side['written'] / MB:.0f} MB written, over 1.5 x {whole / MB:.0f}",
        )
    for link, measured in report["links"].items():
        if link == "100M" and LAYOUT in measured:
            side = measured[LAYOUT]
            ratio = side["seconds"] / (side["bytes_read"] / RATES[link])
            yield ratio <= 1.15, f"{link}: {ratio:.2f} times what the bytes need, not 1.15"
    taken = report["help_seconds"]
    yield taken < HELP, f"--help takes {taken:.3f} s, not under {HELP:g}"
    yield not report["docker_imported"], "docker is imported without an Engine"
