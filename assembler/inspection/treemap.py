"""Areas as large as numbers: rectangles in a rectangle, each as near to a square as can be.

Source: Bruls, Huizing, van Wijk, Squarified Treemaps (2000).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple


class Box(NamedTuple):
    """A rectangle."""

    x: float
    y: float
    width: float
    height: float


def squarify(sizes: Sequence[float], box: Box) -> list[Box]:
    """Return a rectangle for each size (positive, in falling order); together they fill `box`."""
    total = sum(sizes)
    areas = [size * box.width * box.height / total for size in sizes]
    found: list[Box] = []
    while areas:
        side = min(box.width, box.height)
        count = 1
        while count < len(areas) and _worst(areas[: count + 1], side) <= _worst(
            areas[:count], side
        ):
            count += 1
        row, areas = areas[:count], areas[count:]
        placed, box = _row(row, box)
        found += placed
    return found


def _worst(row: list[float], side: float) -> float:
    """Return the worst ratio of sides in a row of areas that lies along `side`."""
    depth = sum(row) / side
    return max(max(depth / (area / depth), (area / depth) / depth) for area in row)


def _row(row: list[float], box: Box) -> tuple[list[Box], Box]:
    """Lay a row of areas along the shorter side; return it and the box that is left."""
    found = []
    if box.width >= box.height:
        depth, at = sum(row) / box.height, box.y
        for area in row:
            found.append(Box(box.x, at, depth, area / depth))
            at += area / depth
        return found, Box(box.x + depth, box.y, box.width - depth, box.height)
    depth, at = sum(row) / box.width, box.x
    for area in row:
        found.append(Box(at, box.y, area / depth, depth))
        at += area / depth
    return found, Box(box.x, box.y + depth, box.width, box.height - depth)
