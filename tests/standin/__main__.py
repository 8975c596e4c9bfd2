"""python -m tests.standin [--size 300M] [--work DIR] [--push HOST:PORT]: make the images."""

from __future__ import annotations

import argparse
import json
import os
import re
from pathlib import Path

from tests.standin.build import BASE_TAG, MB, build
from tests.standin.services import push

_UNITS = {"M": MB, "G": 1000 * MB}


def cache() -> Path:
    """Return where stand-ins are kept between runs."""
    folder = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(folder) / "assembler-tests" / "standin"


def parse_size(text: str) -> int:
    """Return bytes of 300M or 4G."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([MG])B?", text)
    if not match:
        raise argparse.ArgumentTypeError(f"{text!r} is not a size like 300M or 4G")
    return int(float(match[1]) * _UNITS[match[2]])


def main() -> None:
    """Make the images, push them where a registry is named, and say in JSON what is where."""
    parser = argparse.ArgumentParser(prog="python -m tests.standin", description=__doc__)
    parser.add_argument("--work", type=Path, default=cache(), help="where to make and keep them")
    parser.add_argument(
        "--size",
        type=parse_size,
        default=300 * MB,
        help="of the full image, unpacked (%(default)s)",
    )
    parser.add_argument("--push", metavar="HOST:PORT", help="a registry without TLS")
    options = parser.parse_args()
    made = build(options.work, options.size)
    report = {
        "full": str(made.full),
        "base": str(made.base),
        "full_digest": made.full_digest,
        "base_digest": made.base_digest,
        "layers": made.layers,
    }
    if options.push:
        report["full_reference"] = f"{options.push}/nvidia/tritonserver:{made.tag}"
        report["base_reference"] = f"{options.push}/library/ubuntu:{BASE_TAG}"
        push(made.full, made.tag, f"{options.push}/nvidia/tritonserver:{made.tag}")
        push(made.base, BASE_TAG, f"{options.push}/library/ubuntu:{BASE_TAG}")
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
