"""python -m tests.bench [--size 4G] [--runs 3] [--link 1G] [--json FILE] [--svg FILE]: measure, in
turns, and print. python -m tests.bench --check FILE [--svg FILE]: exit 1 unless the run in FILE
reaches what it must.
Needs root, dockerd, docker, docker-registry and skopeo.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.bench.bench import RELEASE, ROOT, Bench, Figures
from tests.bench.chart import svg
from tests.bench.engine import own_engine
from tests.bench.link import RATES, shaped
from tests.bench.report import failures, markdown, medians
from tests.bench.sides import HAND, LINKED, SIDES
from tests.bench.startup import docker_imported, help_seconds
from tests.standin.services import push, registry

NUMPY, PYTHON = ("1.26.4", "1.26.3"), "3.11"
UNITS = {"M": 10**6, "G": 10**9}


def _size(text: str) -> int:
    """Return bytes of 300M or 4G."""
    return int(float(text[:-1]) * UNITS[text[-1]])


def _standin(work: Path, size: int) -> tuple[Path, Path]:
    """Return the layouts of full image and base, made in another process: this one stays small."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.standin", "--work", str(work), "--size", f"{size // 10**6}M"],
        check=True, cwd=ROOT, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    made = json.loads(done.stdout)
    return Path(made["full"]), Path(made["base"])


def _layers(layout: Path) -> dict[str, int]:
    """Return digest and compressed bytes of the layers that a layout's index leads to."""
    found: dict[str, int] = {}
    left = json.loads((layout / "index.json").read_text())["manifests"]
    while left:
        algorithm, _, name = left.pop()["digest"].partition(":")
        document = json.loads((layout / "blobs" / algorithm / name).read_text())
        left += document.get("manifests", [])
        found |= {layer["digest"]: layer["size"] for layer in document.get("layers", [])}
    return found


def _wheels(folder: Path) -> Path:
    """Return a folder with numpy's wheels in it."""
    for version in NUMPY:
        if not list(folder.glob(f"numpy-{version}-*.whl")):
            subprocess.run(
                [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", folder,
                 "--only-binary=:all:", f"--python-version={PYTHON}", f"numpy=={version}"],
                check=True,
            )  # fmt: skip
    return folder


def _index(bench: Bench) -> None:
    """Make the seek index that the sides with an index start from."""
    subprocess.run(
        [sys.executable, "-m", "assembler", "index", RELEASE, "--source", bench.full,
         "--base", bench.base, "--cache-dir", str(bench.folder("index-cache")), "-q",
         "-o", str(bench.index)],
        check=True, cwd=ROOT,
        env=os.environ | {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(bench.wheels)},
    )  # fmt: skip
    shutil.rmtree(bench.work / "index-cache")


def _measured(bench: Bench, sides: list[str], runs: int, about: str) -> dict[str, list[Figures]]:
    figures: dict[str, list[Figures]] = {name: [] for name in sides}
    for turn in range(runs):
        for name in sides:
            figures[name].append(SIDES[name](bench))
            print(f"{turn + 1}/{runs} {about}{name}: {figures[name][-1]['seconds']:.1f} s",
                  file=sys.stderr, flush=True)  # fmt: skip
    return figures


def _bench(size: int, runs: int, links: list[str], sides: list[str]) -> dict[str, Any]:
    cache = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    work = Path(cache) / "assembler-tests"  # as in tests/conftest.py
    full, base = _standin(work / "standin", size)
    mine = work / "bench"
    linked: dict[str, dict[str, list[Figures]]] = {}
    # As pip leaves a package that it has installed.
    subprocess.run([sys.executable, "-m", "compileall", "-q", ROOT / "assembler"], check=True)
    with registry(mine / "registry") as host, own_engine(mine / "engine") as engine:
        names = f"nvidia/tritonserver:{RELEASE}-py3", "library/ubuntu:22.04"
        push(full, f"{RELEASE}-py3", f"{host}/{names[0]}")
        push(base, "22.04", f"{host}/{names[1]}")
        wire = sum((_layers(full) | _layers(base)).values())

        def reached(at: str) -> Bench:
            return Bench(
                engine, f"{at}/{names[0]}", f"{at}/{names[1]}", wire, _wheels(mine / "wheels"),
                mine, mine / "full.index",
            )  # fmt: skip

        bench = reached(host)
        _index(bench)
        figures = _measured(bench, sides, runs, "")
        imported, base_size = docker_imported(bench), bench.base_size()
        for link in links:
            with shaped(host, link) as address:
                chosen = [name for name in sides if name in LINKED]
                linked[link] = _measured(reached(address), chosen, 1, f"{link} ")
    return {
        "size": size,
        "runs": runs,
        "cpus": os.cpu_count(),
        "python": platform.python_version(),
        "help_seconds": help_seconds(),
        "docker_imported": imported,
        "base_size": base_size,
        "medians": {name: medians(each) for name, each in figures.items()},
        "links": {
            link: {name: medians(each) for name, each in found.items()}
            for link, found in linked.items()
        },
        "each": figures,
    }


def main() -> int:
    """Measure, check or draw; return the exit status."""
    parser = argparse.ArgumentParser(prog="tests.bench", description=__doc__)
    parser.add_argument("--size", type=_size, default=_size("4G"), help="of the full image: 4G")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--link", action="append", default=[], choices=sorted(RATES))
    parser.add_argument("--side", action="append", default=[], choices=list(SIDES))
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--svg", type=Path, metavar="FILE")
    parser.add_argument("--check", type=Path, metavar="FILE")
    options = parser.parse_args()
    if options.svg and options.side and HAND not in options.side:
        parser.error(f"--svg draws how many times as fast as {HAND!r} the others are")
    if options.check:
        report = json.loads(options.check.read_text())
        missed = failures(report)
        print("\n".join(missed) or "all bounds kept")
    else:
        sides = options.side or list(SIDES)
        report = _bench(options.size, options.runs, options.link, [n for n in SIDES if n in sides])
        missed = []
        if options.json:
            options.json.write_text(json.dumps(report, indent=1) + "\n")
        print(markdown(report))
    if options.svg:
        options.svg.write_text(svg(report))
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
