"""python -m tests.standin --work DIR [--size 300M] [--push HOST:PORT]: make the stand-in images."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from tests.standin.build import MB, build
from tests.standin.services import push

UNITS = {"M": MB, "G": 1000 * MB}


def parse_size(text: str) -> int:
    """Return bytes of 300M or 4G."""
    return int(float(text[:-1]) * UNITS[text[-1]])


def main() -> None:
    """Make the images and print where they are, as JSON."""
    parser = argparse.ArgumentParser(prog="tests.standin", description=__doc__)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--size", type=parse_size, default=300 * MB)
    parser.add_argument("--push", metavar="HOST:PORT")
    options = parser.parse_args()
    made = build(options.work, options.size)
    report = {
        "full": str(made.full),
        "base": str(made.base),
        "full_digest": made.full_digest,
        "base_digest": made.base_digest,
    }
    if options.push:
        report["full_reference"] = f"{options.push}/nvidia/tritonserver:{made.tag}"
        report["base_reference"] = f"{options.push}/library/ubuntu:22.04"
        push(made.full, made.tag, report["full_reference"])
        push(made.base, "22.04", report["base_reference"])
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
