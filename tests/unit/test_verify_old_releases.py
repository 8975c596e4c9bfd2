"""What `verify` has to know of releases up to 23.04: Python 3.8 and the numpy for it."""

from __future__ import annotations

from pathlib import Path

import pytest

from assembler.verify.files import Files
from assembler.verify.serving import python_models
from assembler.verify.static_python import Python
from tests.unit.building import MemorySource, reg, tar

MODELS = sorted(Path(python_models.__file__).parent.glob("[a-z]*.py"))
FOLDER = "usr/local/lib/python3.8/dist-packages/numpy"


@pytest.mark.parametrize("path", MODELS, ids=lambda path: path.stem)
def test_models_evaluate_no_annotations(path: Path) -> None:
    """`list[Any]` is an error where Python 3.8 evaluates it."""
    assert "\nfrom __future__ import annotations" in path.read_text("utf-8")


@pytest.mark.parametrize(
    "files",
    [
        {"version.py": 'version = "1.26.4"\n__version__ = version\n'},
        {"version.py": "from ._version import get_versions\nvinfo = get_versions()\n",
         "_version.py": "version_json = '''{\n \"error\": null,\n \"version\": \"1.24.4\"\n}'''"},
    ],
    ids=["1.26.4", "1.24.4"],
)  # fmt: skip
def test_numpy_says_its_version(
    files: dict[str, str], tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    source = MemorySource(tar(*(reg(f"{FOLDER}/{name}", text) for name, text in files.items())))
    found = Python(Files(source, tmp_path, ())).version_at(FOLDER)
    assert str(found) == request.node.callspec.id
