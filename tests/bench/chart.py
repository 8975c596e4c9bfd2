"""A picture of a run: bars of seconds, one for each side, as SVG that reads on light and dark."""

from __future__ import annotations

from html import escape
from typing import Any

from tests.bench.sides import HAND, PLAIN, UMOCI

WIDTH, LEFT, BAR, GAP = 860, 250, 20, 10
_THEIRS = (HAND, UMOCI, PLAIN)
_STYLE = (
    "text{font:14px system-ui,sans-serif;fill:#57606a}.title{font-weight:600;font-size:15px}"
    ".theirs{fill:#8c959f}.ours{fill:#2da44e}"
    "@media (prefers-color-scheme:dark){text{fill:#adbac7}}"
)


def svg(report: dict[str, Any]) -> str:
    """Return the picture of the medians over loopback."""
    sides: dict[str, Any] = report["medians"]
    longest = max(side["seconds"] for side in sides.values())
    hand = sides[HAND]["seconds"]
    scale = (WIDTH - LEFT - 150) / longest
    rows: list[str] = []
    top = 44
    for name, side in sides.items():
        seconds = side["seconds"]
        theirs = name in _THEIRS
        label = f"{seconds:.1f} s" + ("" if theirs else f"   {hand / seconds:.0f} x")
        width = max(2.0, seconds * scale)
        middle = top + BAR * 0.72
        rows += [
            f'<text x="{LEFT - 12}" y="{middle:.0f}" text-anchor="end">{escape(name)}</text>',
            f'<rect class="{"theirs" if theirs else "ours"}" x="{LEFT}" y="{top}" '
            f'width="{width:.1f}" height="{BAR}" rx="3"/>',
            f'<text x="{LEFT + width + 8:.0f}" y="{middle:.0f}">{label}</text>',
        ]
        top += BAR + GAP
    title = (
        f"A slim image out of {report['size'] / 1e9:g} GB: seconds, medians of {report['runs']} "
        f"({report['cpus']} cores, registry on loopback)"
    )
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{top + 6}" '
            f'viewBox="0 0 {WIDTH} {top + 6}" role="img" aria-label="{escape(title)}">',
            f"<style>{_STYLE}</style>",
            f'<text class="title" x="12" y="24">{escape(title)}</text>',
            *rows,
            "</svg>\n",
        ]
    )
