"""Stage files: what they may say, and what is said of wrong ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from assembler import resources, stages
from assembler.errors import SelectionError, UsageError


def load(tmp_path: Path, **files: str) -> list[stages.Stage]:
    for name, text in files.items():
        (tmp_path / f"{name}.toml").write_text(text)
    return stages.load([tmp_path])


def test_everything_wrong_in_all_files_is_said_at_once(tmp_path: Path) -> None:
    with pytest.raises(SelectionError) as caught:
        load(
            tmp_path,
            one='summary = 1\npakages = ["x"]\n[[take]]\npath = ["y"]\n',
            two='summary = "s"\norder = "10"\nreleases = "new"\n[[drop]]\npaths = "z"\n',
            three="summary = ",
        )
    assert str(caught.value).splitlines() == [
        "stage files cannot be used:",
        "  one.toml: 'summary' must be a text, not 1",
        "  one.toml: [[take]] 1: key 'paths' is missing",
        "  one.toml: [[take]] 1: unknown key 'path' (did you mean paths?)",
        "  one.toml: unknown key 'pakages' (did you mean packages?)",
        "  three.toml: Invalid value (at end of document)",
        "  two.toml: 'order' must be a whole number, not '10'",
        "  two.toml: 'releases' must be a version specifier like \">=23.05\", not 'new'",
        "  two.toml: [[drop]] 1: 'paths' must be a list of texts, not 'z'",
        "  two.toml: [[drop]] 1: key 'reason' is missing",
    ]


def test_order_release_and_backend_decide_what_is_taken(tmp_path: Path) -> None:
    known = load(
        tmp_path,
        late='summary = "s"\norder = 9',
        old='summary = "s"\nreleases = "<24.01"',
        early='summary = "s"\norder = 1',
        mine='summary = "s"\norder = 5\nbackend = "mine"',
        other='summary = "s"\nbackend = "other"',
    )
    chosen = stages.choose(known, ["mine"], "24.05", [])
    assert [stage.name for stage in chosen] == ["early", "mine", "late"]


def test_a_stage_that_is_off_unless_it_is_asked_for(tmp_path: Path) -> None:
    known = load(tmp_path, on='summary = "s"', off='summary = "s"\nkeep = "more"')
    assert [stage.name for stage in stages.choose(known, [], "24.05", [])] == ["on"]
    assert [stage.name for stage in stages.choose(known, [], "24.05", ["more"])] == ["off", "on"]


def test_a_file_of_the_same_name_in_a_later_folder_wins(tmp_path: Path) -> None:
    folders = [tmp_path / "a", tmp_path / "b"]
    for folder in folders:
        folder.mkdir()
        (folder / "x.toml").write_text(f'summary = "{folder.name}"')
    assert [stage.summary for stage in stages.load(folders)] == ["b"]


@pytest.mark.parametrize("backend", ["tensorrt", "dali", "pytorch", "vllm"])
def test_backends_that_need_a_gpu_are_refused_with_the_reason(backend: str) -> None:
    known = stages.load([resources.path("stages")])
    with pytest.raises(UsageError, match=f"backend '{backend}' is refused: (it|its) .*(GPU|CUDA)"):
        stages.choose(known, [backend], "24.05", [])


def test_what_is_not_known_is_refused_with_what_there_is() -> None:
    known = stages.load([resources.path("stages")])
    with pytest.raises(UsageError, match=r"'onnx'; there are .*onnxruntime, openvino, python"):
        stages.choose(known, ["onnx"], "24.05", [])
    with pytest.raises(UsageError, match=r"--keep cuda: .* there are openvino, python-api"):
        stages.choose(known, ["onnxruntime"], "24.05", ["cuda"])
    with pytest.raises(UsageError, match="no such folder"):
        stages.load([Path("nowhere")])
