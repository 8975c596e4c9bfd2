"""A report as a table, as JSON and as JUnit's XML."""

from __future__ import annotations

import json
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from pathlib import Path
from typing import Any

from assembler.destinations.files import made_beside
from assembler.verify.checks import Report, Result

_COLOURS = {"ok": "green", "failed": "bold red", "skipped": "yellow"}


def document(report: Report) -> dict[str, Any]:
    """Return the machine-readable report."""
    return {
        "image": {
            "reference": report.reference,
            "id": report.image_id,
            "platform": report.platform,
            "release": report.release,
        },
        "holds": report.holds,
        "checks": [
            {
                "part": result.part,
                "name": result.name,
                "status": result.status,
                "text": result.text,
                "seconds": result.seconds,
            }
            for result in report.results
        ],
        "figures": report.figures,
        "notes": report.notes,
    }


def text(report: Report) -> str:
    """Return the same as text."""
    return json.dumps(document(report), indent=1, ensure_ascii=False)


def table(report: Report) -> None:
    """Print the report to standard output: every row, then what it comes to."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    # In a file or a log a row is one line, however long.
    width = None if sys.stdout.isatty() else 240
    console = Console(highlight=False, emoji=False, width=width)
    rows = Table(box=None, pad_edge=False)
    for name in ("part", "check", "result"):
        rows.add_column(name, no_wrap=True)
    rows.add_column("", overflow="fold")
    for result in report.results:
        status = Text(result.status, style=_COLOURS[result.status])
        # Texts quote servers, where brackets are no markup.
        rows.add_row(result.part, result.name, status, Text(result.text))
    console.print(rows)
    for note in report.notes:
        console.print(note, markup=False, soft_wrap=True)
    counts = {s: sum(r.status == s for r in report.results) for s in ("ok", "failed", "skipped")}
    summary = ", ".join(f"{count} {status}" for status, count in counts.items() if count)
    verdict = "holds" if report.holds else "does NOT hold"
    console.print(f"{report.reference}: {verdict} ({summary})", markup=False, soft_wrap=True)


def write_junit(report: Report, path: Path, seconds: float) -> None:
    """Write JUnit's XML to `path`, whole or not at all; DestinationError for what the disk says.

    The form is what CI systems share: testsuites, testsuite, testcase with failure or skipped.
    """
    top = ElementTree.Element("testsuites", name="assembler verify", time=f"{seconds:.3f}")
    parts = list(dict.fromkeys(result.part for result in report.results))
    _count(top, report.results)
    for part in parts:
        results = [result for result in report.results if result.part == part]
        suite = ElementTree.SubElement(top, "testsuite", name=f"verify.{part}")
        _count(suite, results)
        suite.set("time", f"{sum(result.seconds for result in results):.3f}")
        properties = ElementTree.SubElement(suite, "properties")
        for name, value in (("image", report.reference), ("id", report.image_id)):
            ElementTree.SubElement(properties, "property", name=name, value=value)
        for result in results:
            _case(suite, result)
    ElementTree.indent(top)
    with made_beside(path, folder=False, over=True) as temporary:
        ElementTree.ElementTree(top).write(temporary, "utf-8", xml_declaration=True)


def _count(element: ElementTree.Element, results: list[Result]) -> None:
    counted: dict[str, Callable[[Result], bool]] = {
        "tests": lambda _result: True,
        "failures": lambda result: result.status == "failed",
        "errors": lambda _result: False,
        "skipped": lambda result: result.status == "skipped",
    }
    for key, fits in counted.items():
        element.set(key, str(sum(fits(result) for result in results)))


def _case(suite: ElementTree.Element, result: Result) -> None:
    case = ElementTree.SubElement(
        suite,
        "testcase",
        classname=f"verify.{result.part}",
        name=result.name,
        time=f"{result.seconds:.3f}",
    )
    if result.status == "failed":
        ElementTree.SubElement(case, "failure", message=result.text).text = result.text
    elif result.status == "skipped":
        ElementTree.SubElement(case, "skipped", message=result.text)
    else:
        ElementTree.SubElement(case, "system-out").text = result.text
