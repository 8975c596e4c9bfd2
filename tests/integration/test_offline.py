"""--offline: what was read before is enough, and what is missing is told all at once."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import assembler, run
from tests.integration import small
from tests.integration.test_bundle import alone
from tests.standin.services import push, registry

NOWHERE = {"PIP_NO_INDEX": "1"}


class Place:
    """Both images in a registry, and a cache."""

    def __init__(self, folder: Path, host: str) -> None:
        self.cache, self.out = folder / "cache", folder / "out"
        self.words: list[str | Path] = [
            "--mirror", f"nvcr.io={host}", "--mirror", f"docker.io={host}",
            "--cache-dir", self.cache, "--output", self.out,
        ]  # fmt: skip

    def extract(self, *words: str) -> Any:
        shutil.rmtree(self.out, ignore_errors=True)
        return json.loads(assembler("extract", *self.words, "--json", *words))

    def offline(self, *words: str | Path) -> str:
        shutil.rmtree(self.out, ignore_errors=True)
        done = run("extract", *self.words, "--offline", *words, env=NOWHERE)
        assert done.returncode == 1 and "Traceback" not in done.stderr, done.stderr
        assert not self.out.exists()
        return done.stderr


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("offline")
    with registry(folder / "registry") as found:
        push(small.full(folder / "full", tag="24.05-py3"), "24.05-py3",
             f"{found}/nvidia/tritonserver:24.05-py3")  # fmt: skip
        env = [text.replace("24.05", "24.06") for text in small.ENV]
        later = small.full(folder / "later", {"opt/tritonserver/bin/more": "more\n" * 999},
                           tag="24.06-py3", config={"Env": env})  # fmt: skip
        push(later, "24.06-py3", f"{found}/nvidia/tritonserver:24.06-py3")
        push(small.base(folder / "base", tag="22.04"), "22.04", f"{found}/library/ubuntu:22.04")
        yield found


@pytest.fixture
def place(host: str, tmp_path: Path) -> Place:
    return Place(tmp_path, host)


def test_nothing_is_there_and_all_of_it_is_named(place: Place) -> None:
    lines = place.offline().splitlines()
    assert "--offline" in lines[0] and "--bundle" in lines[0]
    assert [line.split(" ")[2:4] for line in lines[1:]] == [
        ["numpy", "1.26.4"], ["the", "base"], ["the", "source"],
    ]  # fmt: skip
    assert "docker.io/library/ubuntu:22.04" in lines[2]
    assert "nvcr.io/nvidia/tritonserver:24.05-py3" in lines[3]


def test_what_was_read_before_is_enough(place: Place) -> None:
    small.wheel(place.cache / "wheels")
    near = place.extract()
    for forgotten in ("none", "results", "stages"):
        shutil.rmtree(place.cache / forgotten, ignore_errors=True)
        shutil.rmtree(place.out, ignore_errors=True)
        done = alone("extract", *place.words, "--offline", "--json")
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["image"] == near["image"]


def test_layers_that_are_not_there_are_named_with_the_rest(place: Place) -> None:
    small.wheel(place.cache / "wheels")
    place.extract()
    shutil.rmtree(place.cache / "results")
    shutil.rmtree(place.cache / "blobs")
    shutil.rmtree(place.cache / "layers")
    shutil.rmtree(place.cache / "wheels")
    text = place.offline()
    for each in ("layer 1 of 1 of the base", "layer 1 of 1 of the source", "numpy 1.26.4"):
        assert each in text
    text = place.offline("--base", "docker.io/library/debian:12")
    for each in ("the base docker.io/library/debian:12", "layer 1 of 1 of the source", "numpy"):
        assert each in text


def test_bytes_that_nobody_asked_for_before(place: Place) -> None:
    small.wheel(place.cache / "wheels")
    place.extract("--backend", "python")
    for path in place.cache.glob("layers/*/*.pack"):
        path.unlink()
    shutil.rmtree(place.cache / "results")
    assert "layer 1 of nvcr.io/nvidia/tritonserver:24.05-py3 would have to be" in place.offline()


def test_several_releases_in_one_bundle_share_what_is_equal(place: Place, tmp_path: Path) -> None:
    small.wheel(place.cache / "wheels")
    made, sizes = {}, {}
    for name, releases in {"24.05": ["24.05"], "24.06": ["24.06"], "b": ["24.05", "24.06"]}.items():
        bundle = tmp_path / f"{name}.bundle"
        assembler("bundle", *releases, *place.words[:-2], "-o", bundle)
        sizes[name] = bundle.stat().st_size
    assert sizes["b"] < sizes["24.05"] + sizes["24.06"] - 25_000
    for release in ("24.05", "24.06"):
        made[release] = place.extract(release)["image"]["digest"]
        words = ("--bundle", tmp_path / "b.bundle", "--offline", "--no-cache", "--json")
        done = alone("extract", release, *words, "--output", tmp_path / release)
        assert json.loads(done.stdout)["image"]["digest"] == made[release]
    assert len(set(made.values())) == 2
    done = alone("extract", "--bundle", tmp_path / "b.bundle", "--output", tmp_path / "which")
    assert done.returncode == 2 and "several images, say which: 24.05" in done.stderr
    done = alone("extract", "--bundle", tmp_path / "b.bundle", "--builder", "engine", "24.05")
    assert done.returncode == 2 and "--builder with --bundle" in done.stderr
