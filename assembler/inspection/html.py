"""A report as one HTML file: it loads nothing, and is whole without scripts but for sorting."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

from assembler import __version__
from assembler.inspection.treemap import Box, squarify
from assembler.progress import size

# Folders of one layer that are drawn on their own; the smaller ones are one box together.
_FOLDERS = 14


def page(report: dict[str, Any]) -> str:
    """Return the page's text."""
    image, release = report["image"], report["release"] or ""
    hues = {
        name: (215 + 47 * number) % 360
        for number, name in enumerate(dict.fromkeys(each["name"] for each in report["layers"]))
    }
    title = f"Triton Inference Server {release}".strip() if release else image["reference"]
    layers = [
        (each["name"], each["summary"], _n(each["files"]), _size(each["size"]),
         _size(each["compressed"]), _code(each["diff_id"]))
        for each in report["layers"]
    ]  # fmt: skip
    components = [
        (each["name"], each["version"], each["kind"], ", ".join(each["licences"]),
         each.get("supplier", "").partition(" <")[0], _code(each["path"]))
        for each in report["components"]
    ]  # fmt: skip
    biggest = [
        (_code(each["path"]), _size(each["size"]), each["layer"], each["reason"])
        for each in report["biggest"]
    ]
    origins = [
        (_origin(each), _code(each.get("digest") or each.get("sha256") or each["name"]),
         _n(each["files"]), _size(each["size"]))
        for each in report["origins"]
    ]  # fmt: skip
    dropped = [
        (each["reason"], _n(each["files"]), _size(each["size"])) for each in report["dropped"]
    ]
    sections = (
        _section("Where the bytes are", _bar(report, hues) + _treemap(report, hues)),
        _section(
            "Layers", _table(("layer", "what", "files", "size", "compressed", "diff_id"), layers)
        ),
        _section(
            f"{len(components)} components",
            _table(("name", "version", "kind", "licences", "supplier", "path"), components, True),
        ),
        _section(
            f"The {len(biggest)} biggest files",
            _table(("file", "size", "layer", "why"), biggest, True),
        ),
        _section("Where from", _table(("from", "digest", "files", "size"), origins)),
        _section("What stayed out", _table(("reason", "files", "size"), dropped))
        if dropped
        else "",
    )
    return _PAGE.format(
        title=escape(title),
        style=_STYLE,
        script=_SCRIPT,
        facts=_facts(report),
        sections="".join(sections),
        version=escape(__version__),
    )


class _Cell(str):
    """A cell of HTML. `key`: what it is sorted by, where that is a number."""

    key: float | None = None


def _cell(html: str, key: float | None = None) -> _Cell:
    cell = _Cell(html)
    cell.key = key
    return cell


def _n(count: int) -> _Cell:
    return _cell(f"{count:,}".replace(",", "\N{THIN SPACE}"), count)


def _size(count: int | None) -> _Cell:
    return _cell(size(count) if count else "", count or 0)


def _code(text: str) -> _Cell:
    return _cell(f"<code>{escape(text)}</code>")


def _facts(report: dict[str, Any]) -> str:
    image = report["image"]
    packed = f", {size(image['compressed'])} compressed" if image["compressed"] else ""
    facts = {
        "image": image["reference"],
        "size": f"{size(image['size'])} in {image['files']} files{packed}",
        "id": image["id"],
        "digest": image["digest"],
        "made": f"{image['created']} for {image['platform']}",
        **{
            key: f"{report[key]['name']} {report[key]['digest'] or report[key]['config']}"
            for key in ("source", "base")
            if report[key]
        },
        "patches": ", ".join(report["patches"] or ()),
        "record": report["record"] or "none: why a file is there is not known",
    }
    rows = (f"<dt>{key}</dt><dd>{escape(text)}</dd>" for key, text in facts.items() if text)
    return f"<dl>{''.join(rows)}</dl>"


def _origin(each: dict[str, Any]) -> str:
    name = str(each["name"])
    kinds = {"layer": "layer of the full image", "wheel": name,
             "assembler": "made by the assembler"}  # fmt: skip
    return kinds.get(str(each.get("kind")), name)


def _section(title: str, body: str) -> str:
    return f"<section><h2>{escape(title)}</h2>{body}</section>"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]], search: bool = False) -> str:
    numbers = {"files", "size", "compressed"}
    classes = [' class="n"' if name in numbers else "" for name in head]
    columns = "".join(
        f'<th{kind} tabindex="0">{name}</th>' for name, kind in zip(head, classes, strict=True)
    )
    lines = []
    for row in rows:
        cells = []
        for cell, kind in zip(row, classes, strict=True):
            text = cell if isinstance(cell, _Cell) else escape(cell)
            key = cell.key if isinstance(cell, _Cell) else None
            cells.append(f"<td{kind}{'' if key is None else f' data-k={key}'}>{text}</td>")
        lines.append(f"<tr>{''.join(cells)}</tr>")
    field = '<input type="search" placeholder="filter" aria-label="filter">' if search else ""
    return (
        f'{field}<div class="{"long" if search else ""}"><table><thead><tr>{columns}</tr></thead>'
        f"<tbody>{''.join(lines)}</tbody></table></div>"
    )


def _bar(report: dict[str, Any], hues: dict[str, int]) -> str:
    """One bar, in parts as wide as the layers are large."""
    parts, keys = [], []
    total = report["image"]["size"] or 1
    sizes: dict[str, int] = defaultdict(int)
    for each in report["layers"]:
        sizes[each["name"]] += each["size"]
    for name, count in sizes.items():
        title = escape(f"{name}: {size(count)}", quote=True)
        style = f"--h:{hues[name]}"
        parts.append(f'<i style="{style};width:{100 * count / total:.3f}%" title="{title}"></i>')
        keys.append(f'<li><i style="{style}"></i>{escape(name)} <b>{size(count)}</b></li>')
    return f'<div class="bar">{"".join(parts)}</div><ul class="key">{"".join(keys)}</ul>'


def _treemap(report: dict[str, Any], hues: dict[str, int]) -> str:
    """Folders as areas, those of one layer together."""
    layers: dict[str, list[tuple[str, int]]] = defaultdict(list)
    for each in report["folders"]:
        layers[each["layer"]].append((each["path"], each["size"]))
    totals = {name: sum(count for _, count in folders) for name, folders in layers.items()}
    order = sorted(layers, key=lambda name: -totals[name])
    # Three times as wide as high, in per cent of both.
    outer = squarify([totals[name] for name in order], Box(0, 0, 300, 100))
    boxes = []
    for name, box in zip(order, outer, strict=True):
        folders = layers[name]
        shown, rest = folders[:_FOLDERS], folders[_FOLDERS:]
        if rest:
            shown = [*shown, (f"{len(rest)} other folders", sum(count for _, count in rest))]
            shown.sort(key=lambda each: -each[1])
        for (path, count), inner in zip(shown, squarify([s for _, s in shown], box), strict=True):
            title = escape(f"{path}\n{name}: {size(count)}", quote=True)
            place = (
                f"left:{inner.x / 3:.3f}%;top:{inner.y:.3f}%;"
                f"width:{inner.width / 3:.3f}%;height:{inner.height:.3f}%"
            )
            wide = inner.width > 24 and inner.height > 7
            short = path if len(path) < inner.width / 2.2 else path.rpartition("/")[2]
            label = f"<b>{escape(short)}</b>{size(count)}" if wide else ""
            boxes.append(
                f'<div style="--h:{hues.get(name, 0)};{place}" title="{title}">{label}</div>'
            )
    return f'<div class="map">{"".join(boxes)}</div>'


_STYLE = """
:root{color-scheme:light dark;--bg:#fbfbfa;--fg:#1d2024;--dim:#646b75;--line:#e1e3e6;--card:#fff;
--s:58%;--l:52%}
@media(prefers-color-scheme:dark){:root{--bg:#14161a;--fg:#e4e6ea;--dim:#969eaa;--line:#2c3037;
--card:#1b1e23;--s:42%;--l:42%}}
*{box-sizing:border-box}
body{margin:0 auto;max-width:1180px;padding:2.2rem 1.4rem;background:var(--bg);color:var(--fg);
font:15px/1.5 system-ui,sans-serif}
h1{margin:0;font-size:1.7rem;letter-spacing:-.02em}h2{font-size:1.1rem;margin:0 0 .8rem}
header p,footer{color:var(--dim);margin:.2rem 0 1rem}
section{background:var(--card);border:1px solid var(--line);border-radius:10px;margin:1.1rem 0;
padding:1.1rem 1.2rem}
dl{display:grid;grid-template-columns:max-content 1fr;gap:.15rem 1.1rem;margin:0}
dt{color:var(--dim)}dd{margin:0;overflow-wrap:anywhere}
code{font:12.5px/1.5 ui-monospace,monospace;overflow-wrap:anywhere}
.bar{display:flex;height:26px;border-radius:6px;overflow:hidden}
.bar i,.key i{background:hsl(var(--h) var(--s) var(--l))}
.key{list-style:none;display:flex;flex-wrap:wrap;gap:.2rem 1.1rem;padding:0;margin:.7rem 0;
color:var(--dim)}
.key i{display:inline-block;width:.7em;height:.7em;border-radius:2px;margin-right:.4em}
.key b{font-weight:600;color:var(--fg)}
.map{position:relative;width:100%;aspect-ratio:3;border-radius:6px;overflow:hidden}
.map div{position:absolute;border:1px solid var(--card);background:hsl(var(--h) var(--s) var(--l));
color:#fff;font-size:11px;line-height:1.25;padding:3px 5px;overflow:hidden}
.map div:hover{filter:brightness(1.15)}.map b{display:block;font-weight:600}

.long{overflow:auto;max-height:34rem}
table{border-collapse:collapse;width:100%;font-size:13.5px}
th{position:sticky;top:0;background:var(--card);text-align:left;color:var(--dim);font-weight:600;
cursor:pointer;white-space:nowrap}
th[data-d="1"]:after{content:" \\2191"}th[data-d="-1"]:after{content:" \\2193"}
th,td{padding:.32rem .7rem .32rem 0;border-bottom:1px solid var(--line);vertical-align:top}
.n{text-align:right;white-space:nowrap;font-variant-numeric:tabular-nums}
input{font:inherit;color:inherit;background:var(--bg);border:1px solid var(--line);
border-radius:6px;padding:.25rem .6rem;margin-bottom:.7rem;width:min(22rem,100%)}
"""

_SCRIPT = """
document.querySelectorAll('table').forEach(function(table){
  var body=table.tBodies[0], heads=table.tHead.rows[0].cells;
  Array.prototype.forEach.call(heads,function(head,column){
    function sort(){
      var down=head.dataset.d==='1'||(head.className==='n'&&!head.dataset.d)?-1:1;
      Array.prototype.forEach.call(heads,function(each){delete each.dataset.d});
      head.dataset.d=down;
      Array.from(body.rows).sort(function(one,other){
        var a=one.cells[column],b=other.cells[column];
        return down*(a.dataset.k!==undefined?a.dataset.k-b.dataset.k
          :a.textContent.localeCompare(b.textContent,undefined,{numeric:true}));
      }).forEach(function(row){body.appendChild(row)});
    }
    head.addEventListener('click',sort);
    head.addEventListener('keydown',function(event){if(event.key==='Enter')sort()});
  });
  var field=table.closest('section').querySelector('input');
  if(field)field.addEventListener('input',function(){
    var wanted=field.value.toLowerCase();
    Array.from(body.rows).forEach(function(row){
      row.hidden=row.textContent.toLowerCase().indexOf(wanted)<0;
    });
  });
});
"""

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<header><h1>{title}</h1><p>What is in the image, and where from</p></header>
<section>{facts}</section>
{sections}
<footer>assembler {version}</footer>
<script>{script}</script>
</body>
</html>
"""
