"""What people do today: docker pull and build by hand, skopeo and umoci, a plain program."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from tests.bench.bench import Bench, Figures
from tests.bench.measure import disk_usage

HAND = Path(__file__).with_name("Dockerfile.hand")


def by_hand(bench: Bench) -> Figures:
    """Measure docker pull of the full image, then docker build, which pulls the base."""
    bench.engine.reset()
    pull, pull_cpu = bench.run(["docker", "pull", "--quiet", bench.full])
    context = bench.work / "context"
    shutil.rmtree(context, ignore_errors=True)
    context.mkdir()
    shutil.copy(next(bench.wheels.glob("numpy-1.26.4-*.whl")), context)
    shutil.copy(HAND, context / "Dockerfile")
    # The classic builder: it is in every Engine, while BuildKit needs the buildx plugin.
    build, build_cpu = bench.run(
        ["docker", "build", "--quiet", "--no-cache", "--network=none", "--tag=bench:hand",
         f"--build-arg=FULL={bench.full}", f"--build-arg=BASE={bench.base}", str(context)]
    )  # fmt: skip
    return {
        "seconds": pull.seconds + build.seconds,
        "pull_seconds": pull.seconds,
        "build_seconds": build.seconds,
        "cpu_seconds": pull.cpu + pull_cpu + build.cpu + build_cpu,
        "bytes_read": bench.wire,
        "engine_disk": disk_usage(bench.engine.data),
        "image_above_base": bench.engine.size("bench:hand") - bench.base_size(),
    }


def skopeo_umoci(bench: Bench) -> Figures:
    """Measure skopeo copy into a layout and umoci unpack, after which files could be copied."""
    folder = bench.work / "umoci"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    copy, _ = bench.run(
        ["skopeo", "copy", "--quiet", "--src-tls-verify=false", f"docker://{bench.full}",
         f"oci:{folder}/layout:full"]
    )  # fmt: skip
    unpack, _ = bench.run(["umoci", "unpack", f"--image={folder}/layout:full", f"{folder}/bundle"])
    found = {
        "seconds": copy.seconds + unpack.seconds,
        "cpu_seconds": copy.cpu + unpack.cpu,
        "memory": max(copy.memory, unpack.memory),
        "bytes_read": bench.wire,
        "written": disk_usage(folder),
    }
    shutil.rmtree(folder)
    return found


def plain_stream(bench: Bench) -> Figures:
    """Measure a plain Python program that reads every layer and keeps nothing."""
    cost, _ = bench.run([sys.executable, "-m", "tests.bench.plain", bench.full])
    return {
        "seconds": cost.seconds,
        "cpu_seconds": cost.cpu,
        "memory": cost.memory,
        "bytes_read": bench.wire,
        "written": 0,
    }
