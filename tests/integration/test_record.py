"""What an image's papers say: record, bill of materials, provenance, lock; and `inspect`."""

from __future__ import annotations

import gzip
import json
import shutil
import tarfile
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from assembler import oci
from tests.conftest import run
from tests.integration import small
from tests.unit.building import reg, tar
from tests.unit.fake_registry import FakeRegistry

TRITON = "/opt/tritonserver"
ARTIFACTS = [
    "application/vnd.triton-assembler.record.v1+json",
    "application/vnd.cyclonedx+json",
    "application/vnd.in-toto+json",
]


class Place:
    """Two images and a cache, and the command line at work on them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.full, self.base = small.full(folder / "full"), small.base(folder / "base")
        self.cache = folder / "cache"
        small.wheel(self.cache / "wheels")
        self.images = ["--source", f"oci:{self.full}", "--base", f"oci:{self.base}"]

    def run(self, *words: str | Path, status: int = 0, **more: Any) -> str:
        """Run a command; return its standard output, or after a failure its error."""
        done = run(*words, "--cache-dir", self.cache, **more)
        assert done.returncode == status, done.stderr
        assert "Traceback" not in done.stderr
        return done.stderr if status else done.stdout

    def extract(self, name: str, *words: str | Path, **more: Any) -> Path:
        """Make an image as a layout, or as an archive."""
        self.run("extract", *(words or self.images), "--output", self.folder / name, **more)
        return self.folder / name

    def inspect(self, *words: str | Path, **more: Any) -> Any:
        return json.loads(self.run("inspect", *words, "--json", **more))


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """A place with an image as a layout (out), its papers (papers), and its lock."""
    place = Place(tmp_path_factory.mktemp("made"))
    place.extract("out", *place.images, "--record", place.folder / "papers",
                  "--lock", place.folder / "assembler.lock")  # fmt: skip
    return place


def paper(place: Place, name: str) -> Any:
    return json.loads((place.folder / "papers" / name).read_text())


def digest(layout: Path) -> str:
    return str(json.loads((layout / "index.json").read_text())["manifests"][0]["digest"])


def manifest(layout: Path) -> Any:
    return json.loads((layout / "blobs" / digest(layout).replace(":", "/")).read_text())


# -- papers -------------------------------------------------------------------------------


def test_each_file_has_an_origin_that_is_an_image_a_wheel_or_the_assembler(made: Place) -> None:
    record = paper(made, "record.json")
    manifest = json.loads((made.full / "index.json").read_text())["manifests"][0]["digest"]
    server = record["files"][f"{TRITON}/bin/tritonserver"]
    origin = record["origins"][server["origin"]]
    assert server["stage"] == "server" and "tritonserver" in server["reason"]
    assert (origin["kind"], origin["image"]) == ("layer", manifest)
    assert (made.full / "blobs" / origin["digest"].replace(":", "/")).is_file()
    numpy = record["files"]["/usr/local/lib/python3.10/dist-packages/numpy/__init__.py"]
    assert record["origins"][numpy["origin"]]["kind"] == "wheel"
    assert record["files"]["/etc/pip.conf"]["origin"] == "assembler"


def test_the_bill_of_materials_is_valid_and_names_what_is_there(made: Place) -> None:
    text = (made.folder / "papers/sbom.cdx.json").read_text()
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    bom = json.loads(text)
    found = {each["name"]: each["version"] for each in bom["components"]}
    assert found["tritonserver"] == "2.46.0" and found["numpy"] == "1.26.4"
    assert {"libc6", "bash", "python3", "onnxruntime_backend", "python_backend"} <= set(found)
    assert bom["metadata"]["component"]["version"] == digest(made.folder / "out")


def test_the_statement_is_of_the_image_and_names_what_it_was_made_of(made: Place) -> None:
    statement = paper(made, "provenance.intoto.json")
    assert statement["_type"] == "https://in-toto.io/Statement/v1"
    assert statement["predicateType"] == "https://slsa.dev/provenance/v1"
    assert statement["subject"][0]["digest"]["sha256"] == digest(made.folder / "out")[7:]
    definition = statement["predicate"]["buildDefinition"]
    assert definition["externalParameters"]["backends"] == ["onnxruntime", "python"]
    needed = {each["name"]: each["digest"]["sha256"] for each in definition["resolvedDependencies"]}
    assert needed["source"] == digest(made.full)[7:] and needed["base"] == digest(made.base)[7:]
    wheel = made.cache / "wheels" / "numpy-1.26.4-py3-none-any.whl"
    assert f"sha256:{needed[wheel.name]}" == oci.sha256(wheel.read_bytes())
    assert "stages/server.toml" in needed


def test_a_layout_and_an_archive_carry_all_three(made: Place) -> None:
    index = json.loads((made.folder / "out/index.json").read_text())["manifests"]
    assert [each["artifactType"] for each in index[1:]] == ARTIFACTS
    papers = {path.read_bytes() for path in (made.folder / "papers").iterdir()}
    archive = made.extract("slim.tar", *made.images)
    with tarfile.open(archive) as tar:
        inside = {
            file.read() for m in tar.getmembers() if m.isfile() and (file := tar.extractfile(m))
        }
    assert len(papers) == 3 and papers <= inside


def test_the_same_inputs_give_the_same_papers(made: Place, tmp_path: Path) -> None:
    other = Place(tmp_path)
    env = {"TZ": "Pacific/Auckland", "PYTHONHASHSEED": "7"}
    other.extract("out", *made.images, "--record", tmp_path / "papers", "--lock",
                  tmp_path / "assembler.lock", env=env)  # fmt: skip
    for name in ("papers/record.json", "papers/sbom.cdx.json", "papers/provenance.intoto.json",
                 "assembler.lock"):  # fmt: skip
        assert (tmp_path / name).read_bytes() == (made.folder / name).read_bytes()


def test_a_name_that_ends_in_json_gets_the_record_alone(place: Place) -> None:
    place.extract("out", *place.images, "--record", place.folder / "mine.json")
    assert "files" in json.loads((place.folder / "mine.json").read_text())
    assert sorted(p.name for p in place.folder.iterdir()) == [
        "base", "cache", "full", "mine.json", "out"
    ]  # fmt: skip


def test_a_record_takes_no_other_files_place(place: Place) -> None:
    mine = place.folder / "archive.tar"
    mine.write_text("mine")
    words = ("extract", *place.images, "--output", place.folder / "out", "--record", mine)
    assert "archive.tar exists already" in place.run(*words, status=1)
    assert mine.read_text() == "mine" and not (place.folder / "out").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--output", "x.tar", "--lock", "./x.tar"), "--lock x.tar is --output x.tar"),
        (("--output", "x", "--record", "x"), "--record x is --output x"),
        (("--output", "x", "--lock", "x/a.lock"), "--lock x/a.lock lies in --output x"),
        (("--output", "y", "--lock", "p.json", "--record", "p.json"), "--record p.json is --lock"),
    ],
)
def test_no_result_is_written_over_another(place: Place, words: tuple[str, ...], said: str) -> None:
    (place.folder / "x").mkdir()
    absolute = [each if each.startswith("--") else str(place.folder / each) for each in words]
    error = place.run("extract", *place.images, *absolute, status=2)
    assert said in error.replace(f"{place.folder}/", "")
    assert len(error.splitlines()) == 1, "nothing was read"


def test_a_run_that_fails_leaves_no_papers_and_the_old_ones_whole(place: Place) -> None:
    papers = place.folder / "papers"
    place.extract("out", *place.images, "--record", papers)
    before = {path.name: path.read_bytes() for path in papers.iterdir()}
    (place.full / "blobs/sha256" / digest(place.full)[7:]).write_bytes(b"{}")
    for folder in (papers, place.folder / "new"):
        words = ("--output", place.folder / "x.tar", "--record", folder, "--lock")
        place.run("extract", *place.images, *words, place.folder / "lock", status=1)
    assert {path.name: path.read_bytes() for path in papers.iterdir()} == before
    assert not (place.folder / "new").exists() and not (place.folder / "lock").exists()


# -- inspect ----------------------------------------------------------------------------------


def test_the_record_is_found_beside_the_image_in_the_cache_or_where_one_says(made: Place) -> None:
    out, none = made.folder / "out", made.folder / "none"
    archive = made.extract("other.tar", *made.images)
    for image in (out, f"oci:{out}", archive, f"oci-archive:{archive}"):
        report = made.inspect(image, "--no-cache")
        assert report["record"] and report["layers"][-1]["name"] == "numpy"
    bare = shutil.copytree(out, made.folder / "bare")
    index = json.loads((bare / "index.json").read_text())
    index["manifests"] = index["manifests"][:1]
    (bare / "index.json").write_text(json.dumps(index))
    for path in (bare / "blobs/sha256").iterdir():
        if b"artifactType" in path.read_bytes():
            path.unlink()
    assert made.inspect(bare)["record"].startswith(str(made.cache))
    papers = made.folder / "papers"
    assert made.inspect(bare, "--no-cache", "--record", papers)["record"] == str(
        papers / "record.json"
    )
    assert not none.exists()
    # Without one it says less.
    report = made.inspect(bare, "--no-cache")
    assert report["record"] is None and report["source"] is None
    assert [each["name"] for each in report["layers"]][-1] == "numpy"
    assert {each["name"] for each in report["components"]} >= {"libc6", "tritonserver", "numpy"}


def test_text_and_json_tell_of_layers_components_origins_and_what_stayed_out(made: Place) -> None:
    report = made.inspect(made.folder / "out")
    assert sum(each["size"] for each in report["layers"]) == report["image"]["size"]
    assert sum(each["size"] for each in report["origins"]) == report["image"]["size"]
    assert sum(each["size"] for each in report["folders"]) == report["image"]["size"]
    assert report["source"]["name"] == f"oci:{made.full}"
    text = made.run("inspect", made.folder / "out")
    for word in ("backend-onnxruntime", "tritonserver", "made by the assembler", "sha256:"):
        assert word in text


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (f"{TRITON}/bin/tritonserver", {"layer": "server", "kind": "file", "mode": "0755"}),
        ("/etc/pip.conf", {"layer": "numpy", "reason": "numpy: written here"}),
        ("bin/sh", {"layer": "base", "present": True}),
        ("/usr/bin/python3", {"target": "python3.10", "leads_to": "/usr/bin/python3.10",
                              "package": "python3"}),
        (f"{TRITON}/backends/onnxruntime/libonnxruntime_providers_cuda.so",
         {"present": False, "left_out": {"stage": "backend-onnxruntime", "keep": "",
          "reason": "CUDA and TensorRT providers: opened for models on a GPU alone"}}),
        ("/nothing/of/the/kind", {"present": False, "left_out": None}),
    ],
)  # fmt: skip
def test_one_path_is_explained(made: Place, path: str, expected: dict[str, Any]) -> None:
    answer = made.inspect(made.folder / "out", "--file", path)
    assert {key: answer[key] for key in expected} == expected
    text = made.run("inspect", made.folder / "out", "--file", path)
    assert (answer["path"] in text) and text.count("\n") > 1


class Links(HTMLParser):
    """Takes note of all that a page would load."""

    def __init__(self) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.rows = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.rows += tag == "tr"
        self.loads += [f"{tag} {k}={v}" for k, v in attrs if k in ("src", "href", "data", "srcset")]


def test_the_html_report_is_one_file_that_loads_nothing(made: Place) -> None:
    page = made.folder / "report.html"
    assert made.run("inspect", made.folder / "out", "--html", page) == ""
    links = Links()
    links.feed(text := page.read_text())
    assert links.loads == [] and "url(" not in text and "@import" not in text
    assert links.rows > 20 and len(text) < 200_000
    assert f"oci:{made.full}" in text


def test_names_of_files_cannot_break_out_of_page_or_terminal(place: Place) -> None:
    folder = f"{TRITON[1:]}/backends/python"
    changes = {
        f"{folder}/<script>alert(1)</script>": "x" * 5000,
        f"{folder}/[/b]\x1b[2J": "x" * 5000,
    }
    small.full(place.folder / "evil", changes)
    out = place.extract("out", "--source", f"oci:{place.folder}/evil", *place.images[2:])
    page = place.folder / "report.html"
    place.run("inspect", out, "--html", page)
    assert "<script>alert" not in page.read_text()
    assert "&lt;script&gt;alert" in page.read_text()
    text = place.run("inspect", out)
    assert "[/b]\\x1b[2J" in text and "\x1b" not in text
    assert "\x1b" not in place.run("inspect", out, "--file", f"{folder}/[/b]\x1b[2J")


def test_an_image_built_on_ours_is_told_by_our_record(made: Place, tmp_path: Path) -> None:
    layers = [
        gzip.decompress((made.folder / "out/blobs" / each["digest"].replace(":", "/")).read_bytes())
        for each in manifest(made.folder / "out")["layers"]
    ]
    above = small.layer({"etc/.wh.pip.conf": "", "etc/mine": "mine\n"})
    derived = small.layout(tmp_path / "derived", *layers, above)
    report = made.inspect(derived)
    assert [each["name"] for each in report["layers"]][-2:] == ["numpy", "above"]
    assert made.inspect(derived, "--file", "/etc/mine")["layer"] == "above"
    removed = made.inspect(derived, "--file", "/etc/pip.conf")["removed"]
    assert removed == {"stage": "numpy", "reason": "numpy: written here"}
    done = run("inspect", derived, "--provenance", "--cache-dir", made.cache)
    assert done.returncode == 1
    assert "wrong  layers: it has 1 layers that the record knows nothing of" in done.stdout


@pytest.mark.parametrize(
    ("content", "said", "status"),
    [
        ("{}", "is no record of an image", 2),
        ("not json", "is no record of an image", 2),
        (None, "cannot be read: No such file or directory", 2),
        ("other", "it is the record of another image", 2),
        ("kinds", "is no record of an image", 2),
    ],
)
def test_a_wrong_record_is_refused(
    made: Place, tmp_path: Path, content: str | None, said: str, status: int
) -> None:
    path, record = tmp_path / "record.json", paper(made, "record.json")
    if content == "other":
        record["layers"][0]["diff_id"] = record["layers"][0]["diff_id"][:-2] + "00"
        content = json.dumps(record)
    elif content == "kinds":
        del record["files"]["/etc/pip.conf"]["sha256"]
        content = json.dumps(record)
    if content is not None:
        path.write_text(content)
    words = ("inspect", made.folder / "out", "--record", path)
    error = made.run(*words, status=status).splitlines()
    assert said in error[-1] and error[-1].startswith("assembler: ")


# -- provenance -----------------------------------------------------------------------------------


def findings(place: Place, *words: str | Path, status: int = 0) -> list[dict[str, str]]:
    done = run("inspect", place.folder / "out", "--provenance", "--json", "--cache-dir",
               place.cache, *words)  # fmt: skip
    assert done.returncode == status, done.stderr
    found: list[dict[str, str]] = json.loads(done.stdout)
    return found


def test_every_file_is_what_the_record_claims_and_ours_are_listed(made: Place) -> None:
    found = findings(made)
    ours = {each["path"] for each in found if each["kind"] == "ours"}
    assert {each["kind"] for each in found} == {"same", "ours"}
    assert {"/etc/pip.conf", "/var/lib/dpkg/status", "config"} <= ours
    wheel = next(each for each in found if each["path"].endswith(".whl"))
    assert "3 of 5 files are the wheel's, byte for byte" in wheel["text"]


def test_verify_says_the_same(made: Place) -> None:
    words = [made.folder / "out", "--provenance", "--json", "--cache-dir", made.cache]
    assert run("verify", *words).stdout == run("inspect", *words).stdout != ""


@pytest.mark.parametrize("change", ["content", "path", "layer", "link", "more", "wheel"])
def test_a_false_claim_is_found(made: Place, tmp_path: Path, change: str) -> None:
    record = paper(made, "record.json")
    files, server = record["files"], f"{TRITON}/bin/tritonserver"
    where = server
    if change == "content":
        files[server]["sha256"] = "00" * 32
    elif change == "path":
        files[server]["source_path"] = f"{TRITON}/lib/libtritonserver.so"
    elif change == "layer":
        files[server]["origin"] = f"sha256:{'00' * 32}"
        record["origins"][files[server]["origin"]] = {"kind": "layer"}
    elif change == "link":
        where = "/usr/bin/python3"
        files[where]["target"] = "elsewhere"
    elif change == "more":
        del files[server]
    elif change == "wheel":
        files[server]["origin"] = files["/etc/pip.conf"]["origin"] = "numpy-1.26.4-py3-none-any.whl"
        where = "/etc/pip.conf"
    (tmp_path / "record.json").write_text(json.dumps(record))
    found = findings(made, "--record", tmp_path, status=1)
    assert where in [each["path"] for each in found if each["kind"] == "wrong"]


def forged(made: Place, folder: Path, record: Any, *entries: Any) -> list[Any]:
    """A copy of the image with more in its last layer, and a record that goes with it."""
    out = shutil.copytree(made.folder / "out", folder / "out")
    document = manifest(out)
    blobs = out / "blobs/sha256"

    def put(data: bytes) -> dict[str, Any]:
        (blobs / oci.sha256(data)[7:]).write_bytes(data)
        return {"digest": oci.sha256(data), "size": len(data)}

    old = gzip.decompress((blobs / document["layers"][-1]["digest"][7:]).read_bytes())
    new = old.rstrip(b"\0")
    new += bytes(-len(new) % 512) + tar(*entries)
    document["layers"][-1] |= put(gzip.compress(new))
    config = json.loads((blobs / document["config"]["digest"][7:]).read_bytes())
    config["rootfs"]["diff_ids"][-1] = record["layers"][-1]["diff_id"] = oci.sha256(new)
    document["config"] |= put(json.dumps(config).encode())
    index = json.loads((out / "index.json").read_text())
    index["manifests"] = [index["manifests"][0] | put(json.dumps(document).encode())]
    (out / "index.json").write_text(json.dumps(index))
    (folder / "record.json").write_text(json.dumps(record))
    done = run("inspect", out, "--provenance", "--json", "--cache-dir", made.cache,
               "--record", folder)  # fmt: skip
    found = json.loads(done.stdout)
    assert done.returncode == any(each["kind"] == "wrong" for each in found), done.stderr
    return [each["path"] for each in found if each["kind"] == "wrong"]


def test_a_forged_image_is_found(made: Place, tmp_path: Path) -> None:
    record, server = paper(made, "record.json"), f"{TRITON}/bin/tritonserver"
    wheel = next(name for name, each in record["origins"].items() if each["kind"] == "wheel")
    evil = {"kind": "file", "origin": wheel, "reason": "x", "stage": "numpy", "size": 4,
            "sha256": oci.sha256(b"evil")[7:]}  # fmt: skip
    record["files"] |= {"/usr/bin/evil": evil, "/usr/bin/other": evil}
    full = small.full_files()[server[1:]]
    wrong = forged(
        made, tmp_path, record, reg("usr/bin/evil", "evil", 0o4755), reg("usr/bin/other", "evil"),
        reg("bin/.wh.sh"), reg(server[1:], full, 0o4755),
    )  # fmt: skip
    assert set(wrong) == {"/usr/bin/evil", "/usr/bin/other", "/bin/sh", server}
    (tmp_path / "none").mkdir()
    assert (
        forged(made, tmp_path / "none", paper(made, "record.json"), reg(server[1:], full, 0o755))
        == []
    )


def test_words_that_a_comparison_of_files_takes_no_notice_of(made: Place, tmp_path: Path) -> None:
    words = (made.folder / "out", "--provenance", "--junit", tmp_path / "junit.xml")
    assert "--junit with --provenance" in made.run("verify", *words, status=2)


def test_another_source_or_base_is_no_proof(made: Place, tmp_path: Path) -> None:
    other = small.full(tmp_path / "full", {"etc/more": "x"})
    found = findings(made, "--source", f"oci:{other}", status=1)
    assert [(each["kind"], each["path"]) for each in found] == [("wrong", "source")]
    other = small.base(tmp_path / "base", {"etc/more": "x"})
    found = findings(made, "--base", f"oci:{other}", status=1)
    assert ("wrong", "base") in [(each["kind"], each["path"]) for each in found]


# -- lock --------------------------------------------------------------------------------------


def test_the_same_lock_gives_the_same_image_from_another_place(made: Place, tmp_path: Path) -> None:
    lock = made.folder / "assembler.lock"
    other = Place(tmp_path)
    again = other.extract("again", "--locked", lock)
    assert digest(again) == digest(made.folder / "out")
    moved = other.extract("moved", "--locked", lock, *other.images)
    assert digest(moved) == digest(made.folder / "out")


def test_a_lock_reads_by_digest_though_the_tags_have_moved(place: Place) -> None:
    registry = FakeRegistry()
    try:
        host = registry.host
        registry.add("triton:1", [small.layer(small.full_files())], **small.CONFIG)
        registry.add("ubuntu:1", [small.layer(small.base_files())], **small.CONFIG)
        words = ("--source", f"{host}/triton:1", "--base", f"{host}/ubuntu:1")
        lock = place.folder / "a.lock"
        before = place.extract("before", *words, "--lock", lock)
        registry.add("triton:1", [small.layer({**small.full_files(), "etc/x": "x"})],
                     **small.CONFIG)  # fmt: skip
        after = place.extract("after", "--locked", lock)
        assert digest(after) == digest(before)
        renewed = place.run("lock", "--upgrade", lock, "--json")
        assert any("source" in each for each in json.loads(renewed)["changes"])
        newer = place.extract("newer", "--locked", lock)
        assert digest(newer) != digest(before)
    finally:
        registry.close()


def test_a_lock_is_written_without_building(made: Place, tmp_path: Path) -> None:
    lock = tmp_path / "mine.lock"
    made.run("lock", *made.images, "-o", lock)
    assert lock.read_bytes() == (made.folder / "assembler.lock").read_bytes()
    turned = ("--backend", "python", "--backend", "onnxruntime", "--backend", "python")
    made.run("lock", *made.images, *turned, "-o", tmp_path / "turned.lock")
    assert (tmp_path / "turned.lock").read_bytes() == lock.read_bytes()
    made.run("lock", "--upgrade", lock, "--backend", "python", "-o", tmp_path / "other.lock")
    assert 'backends = ["python"]' in (tmp_path / "other.lock").read_text()
    assert lock.read_bytes() == (made.folder / "assembler.lock").read_bytes()
    made.run("lock", *made.images, status=2)


def test_all_that_differs_from_a_lock_is_named_and_nothing_is_made(
    made: Place, tmp_path: Path
) -> None:
    other = Place(tmp_path)
    source = small.full(tmp_path / "changed", {"etc/more": "x"})
    (tmp_path / "stages").mkdir()
    (tmp_path / "stages/caches.toml").write_text('summary = "none"\n')
    error = other.run(
        "extract", "--locked", made.folder / "assembler.lock", "--backend", "python",
        "--source", f"oci:{source}", "--base", f"oci:{other.base}", "--numpy", "1.25.2",
        "--stages", tmp_path / "stages", "--output", tmp_path / "out.tar",
        status=1, env={"SOURCE_DATE_EPOCH": "1"},
    )  # fmt: skip
    lines = error.splitlines()
    assert lines[0] == "assembler: the lock does not fit:"
    told = [line.split()[0] for line in lines[1:]]
    assert told == ["backends", "mtime", "numpy", "source", "source",
                    "stages/backend-onnxruntime.toml", "stages/caches.toml"]  # fmt: skip
    assert not (tmp_path / "out.tar").exists()


def test_a_wheel_of_another_hash_is_not_taken(made: Place, tmp_path: Path) -> None:
    other = Place(tmp_path)
    wheel = next((other.cache / "wheels").iterdir())
    # Another archive of the same files: as good for pip, and not what the lock has.
    links = tmp_path / "links"
    links.mkdir()
    (links / wheel.name).write_bytes(wheel.read_bytes() + b"\n")
    wheel.unlink()
    env = {"PIP_FIND_LINKS": str(links), "PIP_NO_INDEX": "1"}
    error = other.run("extract", "--locked", made.folder / "assembler.lock", "--output",
                      tmp_path / "out.tar", status=1, env=env)  # fmt: skip
    assert "the lock has numpy-1.26.4-py3-none-any.whl" in error.splitlines()[-1]
    assert not list((other.cache / "wheels").iterdir())


def test_words_that_do_not_go_together(made: Place, tmp_path: Path) -> None:
    lock = made.folder / "assembler.lock"
    made.run("extract", "--locked", lock, "--lock", lock, status=2)
    error = made.run("extract", "24.06", "--locked", lock, "--output", tmp_path / "x", status=2)
    assert "24.06" in error.splitlines()[-1]
    error = made.run("extract", "--locked", tmp_path / "none", status=2)
    assert "cannot be read: No such file" in error
