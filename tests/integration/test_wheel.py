"""The installed package works without the checkout."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.conftest import ROOT
from tests.standin.build import Standin


def test_a_wheel_carries_its_data_and_works_elsewhere(standin: Standin, tmp_path: Path) -> None:
    def run(*words: str | Path) -> str:
        return subprocess.run(
            [str(word) for word in words], check=True, capture_output=True, text=True, cwd=tmp_path
        ).stdout

    run(sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", tmp_path / "wheel", ROOT)
    site = tmp_path / "site"
    wheel = next((tmp_path / "wheel").glob("*.whl"))
    run(sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", site, wheel)
    command = (
        "import sys; sys.path.insert(0, 'site'); import assembler; "
        "assert 'site' in assembler.__file__, assembler.__file__; "
        "from assembler.__main__ import main; main()"
    )
    out = tmp_path / "image.tar"
    run(sys.executable, "-c", command, "extract", "--source", f"oci:{standin.full}",
        "--base", f"oci:{standin.base}", "--output", out)  # fmt: skip
    assert out.stat().st_size > 100_000_000
