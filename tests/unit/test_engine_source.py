"""docker-daemon: gives the image that the Engine holds, from streams of both kinds."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import tarfile
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from assembler import oci
from assembler.engine import EngineError, answers, connect
from assembler.errors import AssemblerError, SourceError, VerificationError
from assembler.reference import Reference
from assembler.sources.engine import EngineSource, inspected_config, open_engine
from tests.unit import tiny
from tests.unit.fake_engine import FakeEngine, serving
from tests.unit.tiny import AMD64, contents

real_engine = pytest.mark.usefixtures("docker_engine")


class Loaded:
    """Images put into the real Engine by the Engine's own means, and taken out again."""

    def __init__(self) -> None:
        self.client = connect()
        self.names: list[str] = []

    def put(self, tars: list[bytes], config: bytes) -> str:
        name = f"assembler-test-{uuid.uuid4().hex[:12]}:1"
        self.names.append(name)
        data = tiny.tar(tiny.save_before_25(tars, config, [name]))
        answer = list(self.client.load_image(data))
        assert not any("error" in each for each in answer), answer
        return name

    def close(self) -> None:
        for name in self.names:
            self.client.remove_image(name, force=True)
        self.client.close()


@pytest.fixture
def loaded() -> Iterator[Loaded]:
    engine = Loaded()
    yield engine
    engine.close()


@pytest.fixture
def sources() -> Iterator[Any]:
    """Opens sources and closes them."""
    opened: list[EngineSource] = []

    def open_source(name: str, **more: Any) -> EngineSource:
        opened.append(open_engine(Reference.parse(f"docker-daemon:{name}"), AMD64, **more))
        return opened[-1]

    yield open_source
    for each in opened:
        each.close()


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeEngine]:
    engine = FakeEngine()
    with serving(engine) as host:
        monkeypatch.setenv("DOCKER_HOST", host)
        yield engine


def inspected(image_id: str, tars: list[bytes]) -> dict[str, Any]:
    """What inspect says of an image with `tiny.config`."""
    return {
        "Id": image_id,
        "Created": tiny.CREATED,
        "Os": "linux",
        "Architecture": "amd64",
        "Config": {"Hostname": "", "Env": ["PATH=/usr/bin"], "Volumes": None},
        "RootFS": {"Type": "layers", "Layers": [oci.sha256(each) for each in tars]},
    }


# -- the Engine here ----------------------------------------------------------------------


@real_engine
def test_an_image_of_the_engine_is_what_was_put_in(loaded: Loaded, sources: Any) -> None:
    tars = [tiny.layer("a"), tiny.layer("b"), tiny.layer("c")]
    config = tiny.config(tars)
    told: list[int] = []
    source = sources(loaded.put(tars, config), on_bytes=told.append)
    assert source.id == oci.sha256(config)
    assert source.diff_ids == tuple(map(oci.sha256, tars))
    assert contents(source) == tars
    assert source.config == config
    assert source.digest is None
    assert sum(told) > sum(map(len, tars))


@real_engine
def test_an_image_is_found_by_its_id(loaded: Loaded, sources: Any) -> None:
    tars = [tiny.layer("a")]
    loaded.put(tars, tiny.config(tars))
    assert contents(sources(oci.sha256(tiny.config(tars)))) == tars


@real_engine
def test_before_any_stream_the_config_says_what_matters(loaded: Loaded, sources: Any) -> None:
    tars = [tiny.layer("a")]
    exact = json.loads(tiny.config(tars))
    config = json.loads(sources(loaded.put(tars, tiny.config(tars))).config)
    for key in ("created", "os", "architecture", "rootfs", "config"):
        assert config[key] == exact[key]


@real_engine
@pytest.mark.parametrize(
    "created",
    [
        "2024-05-23T01:02:03Z",
        "2024-05-23T01:02:03.5Z",
        "2024-05-23T01:02:03.000000001Z",
        "2024-05-23T01:02:03.12345Z",
        "1970-01-01T00:00:00Z",
        "2024-05-23T01:02:03.5+02:00",
    ],
)
def test_created_is_told_as_it_was_written(loaded: Loaded, sources: Any, created: str) -> None:
    tars = [tiny.layer("a")]
    source = sources(loaded.put(tars, tiny.config(tars, created=created)))
    assert json.loads(source.config)["created"] == created


@real_engine
def test_equal_layers_are_one_layer_in_two_places(loaded: Loaded, sources: Any) -> None:
    one, two = tiny.layer("a"), tiny.layer("b")
    tars = [one, two, one]
    assert contents(sources(loaded.put(tars, tiny.config(tars)))) == tars


@real_engine
def test_from_the_second_stream_on_only_wanted_layers_are_looked_at(
    loaded: Loaded, sources: Any
) -> None:
    tars = [tiny.layer("a"), tiny.layer("b"), tiny.layer("c")]
    source = sources(loaded.put(tars, tiny.config(tars)))
    contents(source)
    seen: list[bytes] = []
    assert list(source.read([1], lambda stream: seen.append(stream.read()))) == [1]
    assert seen == [tars[1]]


@real_engine
def test_a_layer_that_is_only_begun_is_verified_to_its_end(loaded: Loaded, sources: Any) -> None:
    tars = [tiny.layer("a", "b", "c"), tiny.layer("d")]
    source = sources(loaded.put(tars, tiny.config(tars)))
    begun = source.read([0, 1], lambda stream: stream.read(10))
    assert begun == {0: tars[0][:10], 1: tars[1][:10]}


@real_engine
def test_copied_layers_come_with_the_exact_config(
    loaded: Loaded, sources: Any, tmp_path: Path
) -> None:
    tars = [tiny.layer("a"), tiny.layer("b")]
    source = sources(loaded.put(tars, tiny.config(tars)))
    for _ in range(2):
        copied = source.copy_layers(tmp_path)
        assert [each.digest for each in copied] == list(map(oci.sha256, tars))
        assert {each.media_type for each in copied} == {oci.OCI_LAYER}
    assert source.config == tiny.config(tars)
    files = {each.name: each.read_bytes() for each in (tmp_path / "sha256").iterdir()}
    assert files == {oci.sha256(tar)[7:]: tar for tar in tars}


@real_engine
def test_an_image_that_is_not_there(sources: Any) -> None:
    with pytest.raises(SourceError, match="docker pull assembler-none:1, or leave out"):
        sources("assembler-none:1")


@real_engine
def test_another_platform(loaded: Loaded) -> None:
    tars = [tiny.layer("a")]
    name = loaded.put(tars, tiny.config(tars))
    reference = Reference.parse(f"docker-daemon:{name}")
    with pytest.raises(SourceError, match="no image for linux/arm64; it has linux/amd64"):
        open_engine(reference, oci.Platform("linux", "arm64"))


@real_engine
@pytest.mark.skipif(os.geteuid() != 0, reason="becoming another user takes root")
def test_an_engine_without_permission() -> None:
    with tiny.as_nobody(), pytest.raises(EngineError, match="join the group docker"):
        connect()


# -- other Engines ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("host", "line"),
    [
        ("unix:///nowhere/docker.sock", "no Docker Engine answers at unix:///nowhere/docker.sock"),
        ("tcp://127.0.0.1:9", "no Docker Engine answers at tcp://127.0.0.1:9"),
        ("nonsense", "the Docker Engine at nonsense cannot be used"),
    ],
)
def test_no_engine(monkeypatch: pytest.MonkeyPatch, host: str, line: str) -> None:
    monkeypatch.setenv("DOCKER_HOST", host)
    with pytest.raises(EngineError, match=line) as caught:
        connect()
    assert "\n" not in str(caught.value)
    assert not answers()


def test_the_stream_of_docker_25(fake: FakeEngine, sources: Any, tmp_path: Path) -> None:
    tars = [tiny.layer("a"), tiny.layer("b"), tar_of_nothing()]
    config = tiny.config(tars)
    fake.images["x:1"] = inspected(oci.sha256(config), tars)
    fake.save = tiny.tar(tiny.save_since_25(tars, config, ["x:1"]))
    assert contents(sources("x:1")) == tars
    seen: list[bytes] = []
    source = sources("x:1")
    source.read([1], lambda stream: seen.append(stream.read()))
    assert seen == [tars[1]], "paths are diff_ids: even the first stream is read with choice"
    assert source.config == config
    assert [c.digest for c in source.copy_layers(tmp_path)] == list(map(oci.sha256, tars))


def tar_of_nothing() -> bytes:
    out = io.BytesIO()
    tarfile.open(fileobj=out, mode="w").close()
    return out.getvalue()


@pytest.mark.parametrize("how", ["gzip", "zstd"])
def test_the_stream_of_the_containerd_store(
    fake: FakeEngine, sources: Any, tmp_path: Path, how: str
) -> None:
    tars = [tiny.layer("a"), tiny.layer("b")]
    config = tiny.config(tars)
    fake.images["x:1"] = inspected(oci.sha256(b"a manifest"), tars)
    fake.save = tiny.tar(tiny.save_since_25(tars, config, ["x:1"], how))
    source = sources("x:1")
    assert contents(source) == tars
    assert source.config == config
    copied = source.copy_layers(tmp_path)
    assert [each.media_type for each in copied] == [f"{oci.OCI_LAYER}+{how}"] * 2
    assert [each.digest for each in copied] == [oci.sha256(tiny.pack(t, how)) for t in tars]


def broken(fake: FakeEngine, sources: Any, tars: list[bytes]) -> str:
    fake.images["x:1"] = inspected(oci.sha256(tiny.config(tars)), tars)
    with pytest.raises(AssemblerError) as caught:
        contents(sources("x:1"))
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("cut", [100, 2000, 5000])
def test_an_engine_that_goes_away_in_the_middle(fake: FakeEngine, sources: Any, cut: int) -> None:
    tars = [tiny.layer(*"abcdefgh"), tiny.layer("b")]
    fake.save, fake.cut = tiny.tar(tiny.save_since_25(tars, tiny.config(tars), None)), cut
    line = broken(fake, sources, tars)
    assert line.startswith("reading docker-daemon:x:1: the connection to the Docker Engine broke")


def test_an_engine_that_ends_its_stream_early(fake: FakeEngine, sources: Any) -> None:
    tars = [tiny.layer(*"abcdefgh", text="")]
    fake.save = tiny.tar(tiny.save_before_25(tars, tiny.config(tars), None))[:5000]
    assert "ended its stream in the middle" in broken(fake, sources, tars)


def test_a_stream_without_one_of_the_layers(fake: FakeEngine, sources: Any) -> None:
    tars = [tiny.layer("a"), tiny.layer("b")]
    fake.save = tiny.tar(tiny.save_before_25(tars[:1], tiny.config(tars), None))
    assert f"sent no layer with diff_id {oci.sha256(tars[1])}" in broken(fake, sources, tars)


def test_a_blob_that_is_not_what_its_name_says(fake: FakeEngine, sources: Any) -> None:
    tars = [tiny.layer("a")]
    files = dict(tiny.save_since_25(tars, tiny.config(tars), None))
    files[f"blobs/sha256/{oci.sha256(tars[0])[7:]}"] = tiny.layer("b")
    fake.save = tiny.tar(files)
    assert f"expected {oci.sha256(tars[0])}" in broken(fake, sources, tars)


def test_a_stream_with_the_config_of_another_image(
    fake: FakeEngine, sources: Any, tmp_path: Path
) -> None:
    tars = [tiny.layer("a")]
    fake.images["x:1"] = inspected(oci.sha256(tiny.config(tars)), tars)
    fake.save = tiny.tar(tiny.save_before_25(tars, tiny.config([b"other"]), None))
    with pytest.raises(VerificationError, match="sent no config"):
        sources("x:1").copy_layers(tmp_path)


def test_what_a_visit_raises_is_not_blamed_on_the_engine(fake: FakeEngine, sources: Any) -> None:
    tars = [tiny.layer("a")]
    fake.images["x:1"] = inspected(oci.sha256(tiny.config(tars)), tars)
    fake.save = tiny.tar(tiny.save_since_25(tars, tiny.config(tars), None))

    def visit(_stream: object) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        sources("x:1").read([0], visit)


def test_an_image_without_layers_and_settings() -> None:
    assert json.loads(inspected_config({"Os": "linux", "Architecture": "amd64"})) == {
        "os": "linux",
        "architecture": "amd64",
        "rootfs": {"type": "layers", "diff_ids": []},
    }


def test_files_as_source_and_result_never_import_docker() -> None:
    code = (
        "import sys, assembler.sources.archive, assembler.sources.engine, "
        "assembler.destinations.archive, assembler.destinations.layout, "
        "assembler.destinations.engine; sys.exit('docker' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
