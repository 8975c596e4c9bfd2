"""`extract`: cold, with an index, with a cache that knows all or a part."""

from __future__ import annotations

import json
import shutil
import sys

from tests.bench.bench import RELEASE, Bench, Figures
from tests.bench.measure import disk_usage


def _extract(bench: Bench, *words: str) -> Figures:
    cost, engine_cpu = bench.run(
        [sys.executable, "-m", "assembler", "extract", RELEASE, "--source", bench.full,
         "--base", bench.base, "--cache-dir", str(bench.work / "cache"), "--json", *words]
    )  # fmt: skip
    result = json.loads(cost.output)
    return {
        "seconds": cost.seconds,
        "cpu_seconds": cost.cpu + engine_cpu,
        "own_cpu_seconds": cost.cpu,
        "memory": cost.memory,
        "bytes_read": result["bytes_read"],
        "written": cost.written,
        "image_above_base": sum(stage["size"] for stage in result["stages"]),
    }


def _engine(bench: Bench, *words: str) -> Figures:
    return _extract(bench, "--tag", "bench:ours", *words)


def _layout(bench: Bench, *words: str) -> Figures:
    output = bench.folder("layout")
    figures = _extract(bench, "--output", str(output), *words)
    figures["output"] = disk_usage(output)
    shutil.rmtree(output)
    return figures


def cold_engine(bench: Bench) -> Figures:
    """Nothing known, into a cold Engine."""
    bench.engine.reset()
    bench.folder("cache")
    figures = _engine(bench)
    figures["engine_disk"] = disk_usage(bench.engine.data)
    return figures


def cold_layout(bench: Bench) -> Figures:
    """Nothing known, into an OCI layout."""
    bench.folder("cache")
    return _layout(bench)


def index_layout(bench: Bench) -> Figures:
    """A new machine with an index, into an OCI layout."""
    bench.folder("cache")
    return _layout(bench, "--index-from", str(bench.index))


def index_engine(bench: Bench) -> Figures:
    """A new machine with an index, into a cold Engine; the cache then knows all."""
    bench.engine.reset()
    bench.folder("cache")
    return _engine(bench, "--index-from", str(bench.index))


def unchanged(bench: Bench) -> Figures:
    """The same again."""
    return _engine(bench)


def other_numpy(bench: Bench) -> Figures:
    """Another numpy, its wheel at hand, into the Engine that has the rest."""
    return _engine(bench, "--numpy", "1.26.3")


def other_backend(bench: Bench) -> Figures:
    """onnxruntime added where only the python backend was taken before."""
    bench.folder("cache")
    _layout(bench, "--backend", "python")
    return _layout(bench)
