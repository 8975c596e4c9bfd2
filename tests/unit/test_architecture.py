"""The structure, as far as it can be asserted: who may import whom, and what start-up costs."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent.parent / "assembler"
MODULES = sorted(PACKAGE.rglob("*.py"))


def imports(path: Path) -> set[str]:
    """Return what a module imports when it is imported itself (not inside functions)."""
    found: set[str] = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_docker_is_imported_where_it_is_used_alone(path: Path) -> None:
    assert not any(name.split(".")[0] == "docker" for name in imports(path))


@pytest.mark.parametrize(
    ("side", "other"), [("sources", "destinations"), ("destinations", "sources")]
)
def test_no_source_knows_a_destination_nor_the_other_way_round(side: str, other: str) -> None:
    for path in (PACKAGE / side).glob("*.py"):
        assert not any(name.startswith(f"assembler.{other}") for name in imports(path)), path


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_modules_stay_small(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 350


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys\nsys.argv = ['assembler', '--help']\n"
        "from assembler.__main__ import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "heavy = {'docker', 'requests', 'rich', 'isal', 'packaging', 'unidiff', 'installer',\n"
        "         'cyclonedx', 'packageurl'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
    )
    subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, cwd=PACKAGE.parent
    )
