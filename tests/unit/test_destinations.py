"""A result is delivered whole, is read by every tool of the field, or is not there at all."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import subprocess
import tarfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from assembler import oci
from assembler.destinations import Artifact, Image
from assembler.destinations.archive import ArchiveDestination
from assembler.destinations.engine import EngineDestination
from assembler.destinations.layout import LayoutDestination
from assembler.engine import EngineError, connect
from assembler.errors import AssemblerError, DestinationError, UsageError
from assembler.reference import Reference
from assembler.sources.archive import open_archive
from assembler.sources.engine import open_engine
from tests.unit import tiny
from tests.unit.fake_engine import FakeEngine, serving
from tests.unit.tiny import AMD64, contents

real_engine = pytest.mark.usefixtures("docker_engine")
skopeo = pytest.mark.skipif(not shutil.which("skopeo"), reason="skopeo is not installed")
TAG = "tritonserver:24.05-cpu"
RECORD = Artifact("application/vnd.example.record", "application/json", b'{"paths": []}')
FIXED = ["one", "two"]


def fixed_image(folder: Path, how: str = "gzip", artifacts: tuple[Artifact, ...] = ()) -> Image:
    """The same image in any folder."""
    made = tiny.image(folder, [tiny.layer(n, text=n) for n in FIXED], how)
    return Image(made.config, made.layers, made.platform, made.annotations, artifacts)


def fixed_tars() -> list[bytes]:
    return [tiny.layer(n, text=n) for n in FIXED]


def copied(*arguments: str) -> dict[str, Any]:
    """The config of what `skopeo inspect` reads; an error of skopeo's fails the test."""
    done = subprocess.run(
        ["skopeo", "inspect", "--config", "--raw", *arguments], capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr.decode()
    document: dict[str, Any] = json.loads(done.stdout)
    return document


# -- files --------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["gzip", "zstd", ""])
def test_an_archive_reads_as_docker_archive_and_as_oci_archive(tmp_path: Path, how: str) -> None:
    image = fixed_image(tmp_path, how)
    out = tmp_path / "out.tar"
    ArchiveDestination(out).deliver(image, [TAG, "registry.local:5000/team/triton:1"])
    for text in (
        f"docker-archive:{out}",
        f"docker-archive:{out}:{TAG}",
        f"docker-archive:{out}:registry.local:5000/team/triton:1",
        f"oci-archive:{out}",
        f"oci-archive:{out}:{TAG}",
        f"oci-archive:{out}:24.05-cpu",
    ):
        source = open_archive(Reference.parse(text), AMD64)
        assert source.config == image.config
        assert contents(source) == fixed_tars()
        assert source.digest in (None, image.digest)


def test_an_archive_has_the_same_bytes_whoever_writes_it(tmp_path: Path) -> None:
    written = []
    for number, mask in enumerate((0o022, 0o077)):
        folder = tmp_path / str(number)
        image, out = fixed_image(folder, "", (RECORD,)), folder / "out.tar"
        before = os.umask(mask)
        try:
            ArchiveDestination(out).deliver(image, [TAG])
        finally:
            os.umask(before)
        assert out.stat().st_mode & 0o777 == 0o666 & ~mask
        written.append(out.read_bytes())
    assert written[0] == written[1]
    # The golden digest: a change of it is a change of every archive that anybody made.
    assert oci.sha256(written[0]) == GOLDEN


GOLDEN = "sha256:5bed0e5bedab3cebd9845862c4a9e3630a13ea80cf4c4bb8a93141b94e7739b8"


def test_an_archive_lists_the_image_alone_and_carries_what_refers_to_it(tmp_path: Path) -> None:
    image, out = fixed_image(tmp_path, artifacts=(RECORD,)), tmp_path / "out.tar"
    ArchiveDestination(out).deliver(image, [TAG])
    with tarfile.open(out) as archive:
        names = archive.getnames()
        index = json.load(archive.extractfile("index.json") or pytest.fail())
    assert names[:3] == ["oci-layout", "manifest.json", "index.json"]
    assert f"blobs/sha256/{oci.sha256(RECORD.data)[7:]}" in names
    assert [entry["digest"] for entry in index["manifests"]] == [image.digest]


def test_a_layout_lists_the_image_and_its_referrers(tmp_path: Path) -> None:
    image, out = fixed_image(tmp_path, artifacts=(RECORD,)), tmp_path / "out"
    LayoutDestination(out).deliver(image, [TAG])
    index = json.loads((out / "index.json").read_bytes())
    ours, referrer = index["manifests"]
    assert ours["digest"] == image.digest
    assert ours["annotations"] == {
        "io.containerd.image.name": f"docker.io/library/{TAG}",
        "org.opencontainers.image.ref.name": "24.05-cpu",
    }
    assert referrer["artifactType"] == RECORD.artifact_type
    manifest = json.loads((out / "blobs/sha256" / referrer["digest"][7:]).read_bytes())
    assert manifest["subject"] == {key: ours[key] for key in ("mediaType", "digest", "size")}
    assert manifest["config"]["mediaType"] == oci.OCI_EMPTY
    blob = out / "blobs/sha256" / manifest["layers"][0]["digest"][7:]
    assert blob.read_bytes() == RECORD.data
    source = open_archive(Reference.parse(f"oci:{out}"), AMD64)
    assert (source.digest, source.config) == (image.digest, image.config)
    assert contents(source) == fixed_tars()


@skopeo
@pytest.mark.parametrize("how", ["gzip", ""])
def test_skopeo_reads_an_archive_and_a_layout(tmp_path: Path, how: str) -> None:
    image = fixed_image(tmp_path, how, (RECORD,))
    ArchiveDestination(tmp_path / "o.tar").deliver(image, [TAG])
    LayoutDestination(tmp_path / "o").deliver(image, [TAG])
    for source in (
        f"docker-archive:{tmp_path}/o.tar",
        f"docker-archive:{tmp_path}/o.tar:{TAG}",
        f"oci-archive:{tmp_path}/o.tar",
        f"oci-archive:{tmp_path}/o.tar:24.05-cpu",
        f"oci:{tmp_path}/o:24.05-cpu",
    ):
        assert copied(source) == json.loads(image.config)
        target = tmp_path / "copy"
        subprocess.run(["skopeo", "copy", "-q", source, f"dir:{target}"], check=True)
        shutil.rmtree(target)


@skopeo
def test_what_skopeo_writes_is_read(tmp_path: Path) -> None:
    image = fixed_image(tmp_path)
    LayoutDestination(tmp_path / "o").deliver(image, [TAG])
    for target in (f"docker-archive:{tmp_path}/d.tar:a/b:1", f"oci-archive:{tmp_path}/x.tar:a"):
        copy = ["skopeo", "copy", "-q", f"oci:{tmp_path}/o:24.05-cpu", target]
        subprocess.run(copy, check=True)
        source = open_archive(Reference.parse(target), AMD64)
        assert source.diff_ids == tuple(layer.diff_id for layer in image.layers)
        assert contents(source) == fixed_tars()


FILES: list[Callable[[Path], Any]] = [ArchiveDestination, LayoutDestination]


@pytest.mark.parametrize("destination", FILES)
def test_output_that_exists_is_refused_before_any_work(
    tmp_path: Path, destination: Callable[[Path], Any]
) -> None:
    (tmp_path / "file").write_text("mine")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").write_text("mine")
    (tmp_path / "dangling").symlink_to("nowhere")
    for name in ("file", "full", "dangling"):
        with pytest.raises(DestinationError, match=r"exists already.*choose another name"):
            destination(tmp_path / name)
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize("destination", FILES)
def test_output_that_came_into_being_meanwhile_is_left_alone(
    tmp_path: Path, destination: Callable[[Path], Any]
) -> None:
    out = tmp_path / "out"
    made = destination(out)
    out.write_text("mine")
    with pytest.raises(DestinationError, match="exists already"):
        made.deliver(fixed_image(tmp_path / "image"), [TAG])
    assert out.read_text() == "mine"
    assert sorted(each.name for each in tmp_path.iterdir()) == ["image", "out"]


@pytest.mark.parametrize("destination", FILES)
def test_a_missing_folder_and_one_without_permission(
    tmp_path: Path, destination: Callable[[Path], Any]
) -> None:
    with pytest.raises(DestinationError, match="does not exist: make it first"):
        destination(tmp_path / "none" / "out")
    with tiny.as_nobody(), pytest.raises(DestinationError, match="cannot "):
        destination(Path("/usr/out"))


def test_an_empty_folder_takes_a_layout_and_is_no_archive(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    with pytest.raises(DestinationError, match="is a folder: name a file"):
        ArchiveDestination(out)
    LayoutDestination(out).deliver(fixed_image(tmp_path / "image"), [TAG])
    assert (out / "index.json").is_file()


@contextmanager
def small_files(limit: int) -> Iterator[None]:
    """Let no file grow beyond `limit` bytes: a full disk that needs no disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)


@pytest.mark.parametrize("destination", FILES)
def test_a_full_disk_leaves_nothing(tmp_path: Path, destination: Callable[[Path], Any]) -> None:
    tars = [tiny.layer(*map(str, range(50)))]
    image = tiny.image(tmp_path / "image", tars, "")
    # Layers on one disk are linked; a config is always written.
    image = replace(image, config=json.dumps({"x": "x" * 50_000}).encode())
    made = destination(tmp_path / "out")
    with small_files(20_000), pytest.raises(DestinationError, match=r"cannot write .*out"):
        made.deliver(image, [TAG])
    assert [each.name for each in tmp_path.iterdir()] == ["image"]


@pytest.mark.parametrize("destination", FILES)
@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_an_interruption_leaves_nothing(
    tmp_path: Path, destination: Callable[..., Any], error: type[BaseException]
) -> None:
    def begun() -> Iterator[bytes]:
        yield b"begun"
        raise error

    image = fixed_image(tmp_path / "image")
    *others, last = image.layers
    image = replace(image, layers=(*others, replace(last, path=None, make=begun)))
    with pytest.raises(error):
        destination(tmp_path / "out").deliver(image, [TAG])
    assert [each.name for each in tmp_path.iterdir()] == ["image"]


@pytest.mark.parametrize("destination", FILES)
def test_a_bad_tag(tmp_path: Path, destination: Callable[[Path], Any]) -> None:
    with pytest.raises(UsageError):
        destination(tmp_path / "out").deliver(fixed_image(tmp_path / "image"), ["Bad Name"])
    assert [each.name for each in tmp_path.iterdir()] == ["image"]


# -- the Engine here ----------------------------------------------------------------------


class Engine:
    """The real Engine, and what was put into it by a test."""

    def __init__(self) -> None:
        self.client = connect()
        self._names: list[str] = []
        self._ids: list[str] = []

    def name(self) -> str:
        self._names.append(f"assembler-test-{uuid.uuid4().hex[:12]}:1")
        return self._names[-1]

    def forget(self, image: Image) -> None:
        self._ids.append(image.id)

    def has(self, name: str) -> bool:
        return name in {
            each
            for image in self.client.images(all=True)
            for each in (image["Id"], *(image["RepoTags"] or ()))
        }

    def id_of(self, name: str) -> str:
        return str(self.client.inspect_image(name)["Id"])

    def close(self) -> None:
        for name in (*self._names, *self._ids):
            if self.has(name):
                self.client.remove_image(name, force=True)
        self.client.close()


@pytest.fixture
def engine() -> Iterator[Engine]:
    made = Engine()
    yield made
    made.close()


def read_back(name: str) -> tuple[bytes, list[bytes]]:
    source = open_engine(Reference.parse(f"docker-daemon:{name}"), AMD64)
    try:
        tars = contents(source)
        return source.config, tars
    finally:
        source.close()


@real_engine
@pytest.mark.parametrize("how", ["gzip", "members", "zstd", ""])
def test_the_engine_gets_the_image_from_layers_stored_in_any_way(
    tmp_path: Path, engine: Engine, how: str
) -> None:
    tars = [tiny.layer("a"), tiny.layer("b")]
    image = tiny.image(tmp_path, tars, how)
    names = [engine.name(), engine.name()]
    EngineDestination().deliver(image, names)
    assert [engine.id_of(name) for name in names] == [image.id] * 2
    assert read_back(names[0]) == (image.config, tars)


@real_engine
def test_an_archive_goes_through_docker_load_and_docker_save(
    tmp_path: Path, engine: Engine
) -> None:
    tars = [tiny.layer("a"), tiny.layer("b"), tiny.layer("c")]
    image, name = tiny.image(tmp_path, tars), engine.name()
    ArchiveDestination(tmp_path / "out.tar").deliver(image, [name])
    with (tmp_path / "out.tar").open("rb") as file:
        assert not [each for each in engine.client.load_image(file) if "error" in each]
    assert engine.id_of(name) == image.id
    saved = tmp_path / "saved.tar"
    with saved.open("wb") as file:
        for piece in engine.client.get_image(name):
            file.write(piece)
    source = open_archive(Reference.parse(f"docker-archive:{saved}:{name}"), AMD64)
    assert (source.config, contents(source)) == (image.config, tars)
    assert (source.config, contents(source)) == read_back(name)


@real_engine
def test_layers_that_the_engine_has_are_not_sent_again(tmp_path: Path, engine: Engine) -> None:
    base = tiny.layer(*map(str, range(100)))
    one, two = tiny.layer("one"), tiny.layer("two")
    EngineDestination().deliver(tiny.image(tmp_path, [base, one]), [engine.name()])
    sent: list[int] = []
    name = engine.name()
    again = tiny.image(tmp_path, [base, two])
    EngineDestination(sent.append).deliver(again, [name])
    assert 0 < sum(sent) < len(base)
    assert read_back(name) == (again.config, [base, two])


@real_engine
def test_a_layer_on_other_layers_is_sent_again(tmp_path: Path, engine: Engine) -> None:
    one, two = tiny.layer("one"), tiny.layer("two")
    EngineDestination().deliver(tiny.image(tmp_path, [one, two]), [engine.name()])
    name = engine.name()
    EngineDestination().deliver(tiny.image(tmp_path, [two, one]), [name])
    assert read_back(name)[1] == [two, one]


@real_engine
def test_layers_that_only_seem_to_be_there_are_sent_after_all(
    tmp_path: Path, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As when somebody removes the other image at this moment.
    monkeypatch.setattr("assembler.destinations.engine._layers_there", lambda *_: 1)
    image, name = tiny.image(tmp_path, [tiny.layer("a"), tiny.layer("b")]), engine.name()
    EngineDestination().deliver(image, [name])
    assert engine.id_of(name) == image.id


@real_engine
def test_an_image_that_is_there_is_only_tagged(tmp_path: Path, engine: Engine) -> None:
    image = tiny.image(tmp_path, [tiny.layer("a")])
    EngineDestination().deliver(image, [engine.name()])
    sent: list[int] = []
    name = engine.name()
    EngineDestination(sent.append).deliver(image, [name])
    assert (sent, engine.id_of(name)) == ([], image.id)


@real_engine
def test_a_tag_moves_as_with_docker(tmp_path: Path, engine: Engine) -> None:
    name = engine.name()
    old, new = (tiny.image(tmp_path, [tiny.layer("a")]) for _ in range(2))
    engine.forget(old)
    EngineDestination().deliver(old, [name])
    EngineDestination().deliver(new, [name])
    assert engine.id_of(name) == new.id
    assert engine.has(old.id)


@real_engine
def test_a_damaged_layer_moves_no_tag_and_leaves_no_image(tmp_path: Path, engine: Engine) -> None:
    name = engine.name()
    old = tiny.image(tmp_path, [tiny.layer("a")])
    engine.forget(old)
    EngineDestination().deliver(old, [name])
    bad = tiny.image(tmp_path, [tiny.layer("a"), tiny.layer("b")], "")
    bad.layers[1].path.write_bytes(tiny.layer("c"))
    with pytest.raises(EngineError, match="invalid diffID for layer 1") as caught:
        EngineDestination().deliver(bad, [name])
    assert "\n" not in str(caught.value)
    assert engine.id_of(name) == old.id
    assert not engine.has(bad.id)


@real_engine
@pytest.mark.parametrize("whole", [False, True])
def test_an_interrupted_load_leaves_no_image(
    tmp_path: Path, engine: Engine, monkeypatch: pytest.MonkeyPatch, whole: bool
) -> None:
    image, name = tiny.image(tmp_path, [tiny.layer("a")]), engine.name()
    engine.forget(image)

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    if whole:  # After everything was sent, before the first tag.
        monkeypatch.setattr("assembler.destinations.engine._tag", interrupt)
    made = EngineDestination(None if whole else interrupt)
    with pytest.raises(KeyboardInterrupt):
        made.deliver(image, [name])
    assert not engine.has(name)
    assert not engine.has(image.id)


@real_engine
def test_a_bad_tag_is_told_before_anything_is_sent(tmp_path: Path, engine: Engine) -> None:
    image = tiny.image(tmp_path, [tiny.layer("a")])
    with pytest.raises(UsageError):
        EngineDestination().deliver(image, ["x:1", "x:!"])
    assert not engine.has(image.id)


# -- other Engines ------------------------------------------------------------------------


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeEngine]:
    made = FakeEngine()
    with serving(made) as host:
        monkeypatch.setenv("DOCKER_HOST", host)
        monkeypatch.setattr("assembler.destinations.engine._WITHDRAW", 0.0)
        yield made


def test_no_engine_is_told_before_any_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", "unix:///nowhere/docker.sock")
    with pytest.raises(EngineError, match="start it or set DOCKER_HOST"):
        EngineDestination()


def test_the_containerd_store_gets_all_blobs_as_they_are(tmp_path: Path, fake: FakeEngine) -> None:
    image = fixed_image(tmp_path)
    fake.containerd = True
    fake.appears = {image.digest: {"Id": image.digest}}
    EngineDestination().deliver(image, [TAG, "team/x:2"])
    (tmp_path / "sent.tar").write_bytes(fake.loaded[0])
    source = open_archive(Reference.parse(f"oci-archive:{tmp_path / 'sent.tar'}"), AMD64)
    assert (source.digest, contents(source)) == (image.digest, fixed_tars())
    tags = [call for call in fake.calls if "/tag" in call]
    assert len(tags) == 2 and f"/images/{image.digest}/tag" in tags[0]
    assert b"24.05-cpu" not in fake.loaded[0], "tags move when the whole image is there"


@pytest.mark.parametrize(
    "answer",
    [
        b'{"errorDetail":{"message":"no space left"},"error":"no space left"}\r\n',
        b'{"stream":"Loading"}{"error":"no space left"}',
    ],
)
def test_an_engine_that_refuses(tmp_path: Path, fake: FakeEngine, answer: bytes) -> None:
    fake.load_answer = answer
    with pytest.raises(EngineError, match=f"loading {TAG}: the Engine says: no space left"):
        EngineDestination().deliver(fixed_image(tmp_path), [TAG])
    assert not [call for call in fake.calls if "/tag" in call]


def test_an_engine_that_goes_away(tmp_path: Path, fake: FakeEngine) -> None:
    fake.hang_up_after = 1
    image = tiny.image(tmp_path, [os.urandom(4 << 20)], "")
    with pytest.raises(AssemblerError, match="the connection to the Docker Engine broke") as caught:
        EngineDestination().deliver(image, [TAG])
    assert "\n" not in str(caught.value)


@pytest.mark.usefixtures("fake")
def test_an_engine_that_takes_the_archive_and_has_no_image(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="has no such image"):
        EngineDestination().deliver(fixed_image(tmp_path), [TAG])
