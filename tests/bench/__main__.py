"""python -m tests.bench [--size 4G] [--runs 3] [--json FILE]: measure, in turns, and print.

python -m tests.bench --check FILE: exit 1 unless the run in FILE reaches what it must.
Needs root, dockerd, docker, docker-registry and skopeo.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.bench.engine import own_engine
from tests.bench.report import failures, medians, table
from tests.bench.sides import RELEASE, ROOT, SIDES, Bench
from tests.bench.startup import docker_imported, help_seconds
from tests.standin.services import push, registry

NUMPY, PYTHON = "1.26.4", "3.11"
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
    """Return a folder with numpy's wheel in it."""
    if not list(folder.glob("numpy-*.whl")):
        subprocess.run(
            [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", folder,
             "--only-binary=:all:", f"--python-version={PYTHON}", f"numpy=={NUMPY}"],
            check=True,
        )  # fmt: skip
    return folder


def _bench(size: int, runs: int) -> dict[str, Any]:
    cache = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    work = Path(cache) / "assembler-tests"  # as in tests/conftest.py
    full, base = _standin(work / "standin", size)
    mine = work / "bench"
    figures: dict[str, list[dict[str, Any]]] = {name: [] for name in SIDES}
    with registry(mine / "registry") as host, own_engine(mine / "engine") as engine:
        names = f"{host}/nvidia/tritonserver:{RELEASE}-py3", f"{host}/library/ubuntu:22.04"
        push(full, f"{RELEASE}-py3", names[0])
        push(base, "22.04", names[1])
        wire = sum((_layers(full) | _layers(base)).values())
        bench = Bench(engine, *names, wire, _wheels(mine / "wheels"), mine)
        for turn in range(runs):
            for name, side in SIDES.items():
                figures[name].append(side(bench))
                print(f"{turn + 1}/{runs} {name}: {figures[name][-1]['seconds']:.1f} s",
                      file=sys.stderr)  # fmt: skip
        imported = docker_imported(bench)
    return {
        "size": size,
        "runs": runs,
        "cpus": os.cpu_count(),
        "python": platform.python_version(),
        "help_seconds": help_seconds(),
        "docker_imported": imported,
        "medians": {name: medians(each) for name, each in figures.items()},
        "each": figures,
    }


def main() -> int:
    """Measure or check; return the exit status."""
    parser = argparse.ArgumentParser(prog="tests.bench", description=__doc__)
    parser.add_argument("--size", type=_size, default=_size("4G"), help="of the full image: 4G")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--check", type=Path, metavar="FILE")
    options = parser.parse_args()
    if options.check:
        missed = failures(json.loads(options.check.read_text()))
        print("\n".join(missed) or "all bounds kept")
        return 1 if missed else 0
    report = _bench(options.size, options.runs)
    table(report)
    if options.json:
        options.json.write_text(json.dumps(report, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
