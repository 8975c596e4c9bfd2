"""A report as tables on a terminal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

from assembler.papers.provenance import Finding
from assembler.progress import plain, size

ROWS = 15
_WIDE = 160  # columns, where the output is a file


def show(report: dict[str, Any]) -> None:
    """Print a report to standard output."""
    from rich.console import Console

    console = Console(highlight=False, markup=False, emoji=False)
    if not console.is_terminal:
        console.width = _WIDE

    def line(name: str, text: str) -> None:
        console.print(f"{name:<9} {plain(text)}", soft_wrap=True)

    image = report["image"]
    packed = f", {size(image['compressed'])} compressed" if image["compressed"] else ""
    line("image", image["reference"])
    line("id", image["id"])
    if image["digest"]:
        line("digest", image["digest"])
    line("size", f"{size(image['size'])} in {image['files']} files{packed}")
    line("made", f"{image['created']} for {image['platform']}")
    if report["release"]:
        line("release", report["release"])
    for key in ("source", "base"):
        if report[key]:
            line(key, f"{report[key]['name']} {report[key]['digest'] or report[key]['config']}")
    if report["patches"]:
        line("patches", " ".join(report["patches"]))
    line(
        "record", report["record"] or "none found: --record FILE names one; so files have no reason"
    )
    for table in (_layers(report), _origins(report), _components(report), _biggest(report)):
        console.print("")
        console.print(table)
    if report["dropped"]:
        console.print("")
        console.print(_dropped(report))


def explain(answer: dict[str, Any]) -> None:
    """Print what is known of one path."""
    if not answer["present"]:
        rule, known = answer["left_out"], answer["removed"]
        unknown = "no rule of the record names it: no stage takes it, nothing needs it"
        _say(f"{answer['path']} is not in the image")
        if known:
            _say(f"removed   in a layer above; stage {known['stage']} had it: {known['reason']}")
        elif rule:
            keep = f" (--keep {rule['keep']} brings it)" if rule["keep"] else ""
            _say(f"left out  {rule['reason']}: stage {rule['stage']}{keep}")
        else:
            _say(f"left out  {unknown if answer['record'] else 'no record says why'}")
        return
    origin = answer.pop("origin", {})
    for key in ("path", "kind", "size", "mode", "sha256", "target", "leads_to", "layer", "diff_id",
                "package", "reason", "original"):  # fmt: skip
        if answer.get(key) not in (None, ""):
            _say(f"{key.replace('_', ' '):<9} {answer[key]}")
    if origin:
        known = {key: origin[key] for key in ("image", "digest", "sha256") if key in origin}
        kind, name = origin["kind"], origin["name"]
        what = kind if kind == name else f"{kind} {name}"
        _say(f"{'origin':<9} {', '.join([what, *(f'{k} {v}' for k, v in known.items())])}")
        if kind == "layer" and origin["path"] != answer["path"]:
            _say(f"{'':<9} where it is {origin['path']}")


def findings(found: Iterable[Finding]) -> None:
    """Print what a check of provenance found."""
    for each in found:
        _say(f"{each.kind:<6} {each.path}: {each.text}")


def _say(text: str) -> None:
    print(plain(text))


def _table(*columns: str) -> Any:
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for name in columns:
        right = name in ("files", "size", "compressed")
        table.add_column(name, justify="right" if right else "left", no_wrap=right, overflow="fold")
    return table


def _row(table: Any, *cells: str) -> None:
    table.add_row(*map(plain, cells))


def _layers(report: dict[str, Any]) -> Any:
    table = _table("layer", "files", "size", "compressed", "what")
    for each in report["layers"]:
        packed = size(each["compressed"]) if each["compressed"] else ""
        _row(table, each["name"], str(each["files"]), size(each["size"]), packed, each["summary"])
    return table


def _origins(report: dict[str, Any]) -> Any:
    table = _table("from", "files", "size")
    for each in report["origins"]:
        name = each["name"]
        if each.get("kind") == "layer":
            name = f"the full image, layer {name[7:19]}"
        elif each.get("kind") == "assembler":
            name = "made by the assembler"
        _row(table, name, str(each["files"]), size(each["size"]))
    return table


def _components(report: dict[str, Any]) -> Any:
    counts = Counter(each["kind"] for each in report["components"])
    table = _table("component", "version", "licences")
    for each in report["components"]:
        if each["kind"] != "deb" and "/_vendor/" not in each["path"]:
            _row(table, each["name"], each["version"], ", ".join(each["licences"]))
    _row(table, f"{counts['deb']} Debian packages", "", "(--json and --html list them)")
    return table


def _biggest(report: dict[str, Any]) -> Any:
    table = _table("size", "biggest files", "layer", "why")
    for each in report["biggest"][:ROWS]:
        _row(table, size(each["size"]), each["path"], each["layer"], each["reason"])
    return table


def _dropped(report: dict[str, Any]) -> Any:
    table = _table("left out", "files", "size")
    for each in report["dropped"]:
        _row(table, each["reason"], str(each["files"]), size(each["size"]))
    return table
