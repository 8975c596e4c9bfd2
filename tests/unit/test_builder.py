"""`--builder engine`: what the real Engine is left with."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import docker
import pytest

from assembler.builder import build
from assembler.destinations import Image
from assembler.destinations.archive import ArchiveDestination
from assembler.destinations.engine import EngineDestination
from assembler.engine import connect
from assembler.errors import DestinationError
from assembler.reference import Reference
from assembler.sources.archive import open_archive
from assembler.sources.blobs import BlobSource
from tests.unit import tiny
from tests.unit.tiny import AMD64

pytestmark = pytest.mark.usefixtures("docker_engine")
GOOD = "ARG BASE\nFROM ${BASE}\nADD layers/a.tar /\nADD layers/a.tar /more/\n"


@pytest.fixture
def engine() -> Iterator[Any]:
    with closing(connect()) as client:
        yield client


@pytest.fixture
def base(tmp_path: Path) -> Iterator[tuple[Image, BlobSource]]:
    """An image that the Engine has not: as it is and as a source."""
    image = tiny.image(tmp_path / "base", [tiny.layer("base")])
    ArchiveDestination(tmp_path / "base.tar").deliver(image, ())
    with closing(open_archive(Reference.parse(f"docker-archive:{tmp_path}/base.tar"), AMD64)) as it:
        source = BlobSource(it, tmp_path / "blobs")
    yield Image(source.config, source.layers, AMD64), source
    with closing(connect()) as client:
        for each in above(client, image):
            with suppress(docker.errors.APIError):  # gone with another
                client.remove_image(each, force=True)


def made(base: BlobSource, dockerfile: str, folder: Path) -> Image:
    added = tiny.image(folder / "added", [tiny.layer("a")], "").layers[0]
    return build(Image(b"{}", (), AMD64), base, dockerfile, {"layers/a.tar": added}, folder)


def above(engine: Any, base: Image) -> list[str]:
    """The ids of all images that begin with the base's layer."""
    found = []
    for each in engine.images(all=True, quiet=True):
        with suppress(docker.errors.NotFound):
            layers = engine.inspect_image(each)["RootFS"].get("Layers") or [""]
            found += [each] * (layers[0] == base.layers[0].diff_id)
    return found


@pytest.mark.parametrize("known", [False, True])
@pytest.mark.parametrize("run", ["", "RUN false\n"])
def test_the_engine_keeps_what_it_had_and_nothing_else(
    engine: Any, base: tuple[Image, BlobSource], tmp_path: Path, known: bool, run: str
) -> None:
    image, source = base
    if known:  # without a name, as an earlier image of a tag that has moved
        EngineDestination().deliver(image, ())
    if run:
        with pytest.raises(DestinationError, match="docker build: "):
            made(source, GOOD + run, tmp_path)
    else:
        assert len(made(source, GOOD, tmp_path).layers) == 3
    assert above(engine, image) == ([image.id] if known else [])


def test_a_step_that_got_a_name_meanwhile_is_kept(
    engine: Any, base: tuple[Image, BlobSource], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = base[1]
    name = f"assembler-test-{uuid.uuid4().hex[:12]}"

    def copied(*words: Any) -> BlobSource:
        engine.tag(words[0].id, name, "1")
        return BlobSource(*words)

    monkeypatch.setattr("assembler.builder.BlobSource", copied)
    built = made(source, GOOD, tmp_path)
    assert engine.inspect_image(f"{name}:1")["RootFS"]["Layers"] == [
        layer.diff_id for layer in built.layers
    ]
