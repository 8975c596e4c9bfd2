"""Bundles: the same image without a network, the same bytes anywhere, and nothing damaged taken."""

from __future__ import annotations

import json
import random
import re
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from assembler import oci
from assembler.bundle import file as form
from assembler.bundle.file import BundleFile
from assembler.bundle.opening import opened
from assembler.errors import AssemblerError
from tests.conftest import ROOT, Hosted, assembler, run
from tests.integration import small
from tests.standin.services import push, registry

# Nothing but a loopback device that is down.
NAMESPACE = ["unshare", "--net", "--map-root-user"]


class Place:
    """Two images, a cache, and a bundle made of them."""

    def __init__(self, folder: Path, **changes: Any) -> None:
        self.folder = folder
        self.images = ["--source", f"oci:{small.full(folder / 'full', **changes)}",
                       "--base", f"oci:{small.base(folder / 'base')}"]  # fmt: skip
        self.cache = folder / "cache"
        small.wheel(self.cache / "wheels")
        self.bundle = folder / "triton.bundle"

    def make(self, *words: str | Path, **more: Any) -> Path:
        where = [] if "-o" in words else ["-o", self.bundle]
        assembler("bundle", *self.images, "--cache-dir", self.cache, *where, *words, **more)
        return self.bundle


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Place:
    place = Place(tmp_path_factory.mktemp("made"))
    place.make()
    return place


def alone(*words: str | Path) -> subprocess.CompletedProcess[str]:
    """Run the command line in a namespace without a network."""
    return subprocess.run(
        [*NAMESPACE, sys.executable, "-m", "assembler", *map(str, words)],
        capture_output=True, text=True, cwd=ROOT, check=False, timeout=300,
    )  # fmt: skip


def files(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*") if path.is_file()
    }  # fmt: skip


# -- the way there and back ----------------------------------------------------------------------


def test_the_far_side_makes_the_same_image_papers_and_all(made: Place, tmp_path: Path) -> None:
    assembler("extract", *made.images, "--cache-dir", made.cache, "--output", tmp_path / "near")
    words = ("--bundle", made.bundle, "--offline", "--no-cache", "--output", tmp_path / "far")
    done = alone("extract", *words)
    assert done.returncode == 0, done.stderr
    assert files(tmp_path / "near") == files(tmp_path / "far")


def test_from_a_registry_to_a_namespace_without_one(hosted: Hosted, tmp_path: Path) -> None:
    cache = ("--cache-dir", tmp_path / "cache")
    near = json.loads(
        assembler("extract", "24.05", *hosted.mirrors, *cache, "--json", "--output",
                  tmp_path / "near")
    )  # fmt: skip
    bundle = tmp_path / "bundle"
    assembler("bundle", "24.05", *hosted.mirrors, *cache, "-o", bundle, "--split", "50MB")
    shutil.rmtree(tmp_path / "cache")
    done = alone("extract", "--bundle", bundle, "--offline", *cache, "--json", "--output",
                 tmp_path / "far")  # fmt: skip
    assert done.returncode == 0, done.stderr
    far = json.loads(done.stdout)
    assert (far["image"], far["bytes_read"]) == (near["image"], 0)
    assert files(tmp_path / "near") == files(tmp_path / "far")
    layers = json.loads((tmp_path / "far/blobs" / far["image"]["digest"].replace(":", "/"))
                        .read_text())["layers"]  # fmt: skip
    size = sum(path.stat().st_size for path in tmp_path.glob("bundle.*"))
    assert size <= 1.1 * sum(layer["size"] for layer in layers)


def test_the_same_bytes_in_another_folder_time_zone_and_mask(made: Place, tmp_path: Path) -> None:
    env = {"TZ": "Pacific/Auckland", "PYTHONHASHSEED": "7", "XDG_CACHE_HOME": str(tmp_path / "c")}
    small.wheel(tmp_path / "c/assembler/wheels")
    script = f"umask 077; exec {sys.executable} -m assembler bundle"
    words = [*made.images, "-o", tmp_path / "other"]
    command = ["sh", "-c", f"{script} {' '.join(map(str, words))}"]
    subprocess.run(command, check=True, cwd=ROOT, env={"PATH": "/usr/bin:/bin", **env},
                   capture_output=True)  # fmt: skip
    assert (tmp_path / "other").read_bytes() == made.bundle.read_bytes()
    pip = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(made.cache / "wheels")}
    made.make("-o", tmp_path / "uncached", "--no-cache", env=pip)
    assert (tmp_path / "uncached").read_bytes() == made.bundle.read_bytes()


def test_images_share_what_is_equal_and_one_of_them_is_chosen(tmp_path: Path) -> None:
    place = Place(tmp_path)
    mine = tmp_path / "mine"
    mine.mkdir()
    python = place.make("-o", tmp_path / "python", "--backend", "python") and tmp_path / "python"
    with BundleFile([python]) as one:
        assert [image["backends"] for image in one.images] == [["python"]]
    done = run("extract", "--bundle", python, "--backend", "onnxruntime", "--output", mine / "x")
    assert (
        done.returncode == 2 and "no such image; it has 24.05 python (linux/amd64)" in done.stderr
    )
    done = run("extract", "--bundle", python, "--numpy", "1.26.4", "--output", mine / "x")
    assert done.returncode == 2 and "--numpy with --bundle" in done.stderr
    assert list(mine.iterdir()) == []


def test_several_releases_in_one_bundle_share_what_is_equal(tmp_path: Path) -> None:
    cache, sizes = tmp_path / "cache", {}
    small.wheel(cache / "wheels")
    env = [text.replace("24.05", "24.06") for text in small.ENV]
    later = {"opt/tritonserver/bin/more": "more\n" * 999}
    with registry(tmp_path / "registry") as host:
        repository = f"{host}/nvidia/tritonserver"
        push(small.full(tmp_path / "5", tag="x"), "x", f"{repository}:24.05-py3")
        push(small.full(tmp_path / "6", later, tag="x", config={"Env": env}), "x",
             f"{repository}:24.06-py3")  # fmt: skip
        push(small.base(tmp_path / "base", tag="x"), "x", f"{host}/library/ubuntu:22.04")
        words = ("--mirror", f"nvcr.io={host}", "--mirror", f"docker.io={host}", "--cache-dir")
        for releases in (["24.05"], ["24.06"], ["24.05", "24.06"]):
            bundle = tmp_path / f"{len(releases)}{releases[0]}"
            assembler("bundle", *releases, *words, cache, "-o", bundle)
            sizes[bundle.name] = bundle.stat().st_size
        near = [
            json.loads(assembler("extract", release, *words, cache, "--json", "--output",
                                 tmp_path / f"near-{release}"))["image"]["digest"]
            for release in ("24.05", "24.06")
        ]  # fmt: skip
    assert sizes["224.05"] < sizes["124.05"] + sizes["124.06"] - 25_000
    both = ("--bundle", tmp_path / "224.05", "--offline", "--no-cache", "--json", "--output")
    far = [
        json.loads(alone("extract", release, *both, tmp_path / release).stdout)["image"]["digest"]
        for release in ("24.05", "24.06")
    ]
    assert far == near and len(set(near)) == 2
    done = alone("extract", *both, tmp_path / "which")
    assert done.returncode == 2 and "several images, say which: 24.05" in done.stderr
    done = alone("extract", "24.05", *both, tmp_path / "which", "--builder", "engine")
    assert done.returncode == 2 and "--builder with --bundle" in done.stderr


def test_a_bundle_that_is_there_and_no_name_for_one(made: Place) -> None:
    done = run("bundle", *made.images, "-o", made.bundle)
    assert done.returncode == 1 and "exists already" in done.stderr
    done = run("bundle", *made.images)
    assert done.returncode == 2 and "-o FILE" in done.stderr


def test_words_that_would_be_passed_over_or_fail_late(made: Place, tmp_path: Path) -> None:
    done = run("bundle", "24.05", "24.06", *made.images, "-o", tmp_path / "two")
    assert done.returncode == 2 and "--source is one image" in done.stderr
    assert len(done.stderr.splitlines()) == 1, "nothing was read"
    done = run("bundle", *made.images, "-o", tmp_path / "tools", "--tools", "--offline")
    assert done.returncode == 2 and "--offline forbids it" in done.stderr
    for words in (["--tools"], ["--split", "2GB"], ["--locked", "x"]):
        done = run("bundle", "--check", made.bundle, *words)
        assert done.returncode == 2 and "and nothing else" in done.stderr


def test_why_pip_has_not_got_the_tools(made: Place, tmp_path: Path) -> None:
    words = (*made.images, "--cache-dir", made.cache, "--tools", "-o", tmp_path / "tools")
    env = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(made.cache / "wheels")}
    done = run("bundle", *words, env=env)
    assert done.returncode == 1 and not (tmp_path / "tools").exists()
    assert "--tools: pip wheel: No matching distribution found for setuptools" in done.stderr


def test_a_network_that_is_not_there_is_no_slow_registry(made: Place) -> None:
    done = alone("extract", "--bundle", made.bundle, "--no-cache", "--push", "127.0.0.1:1/x:1")
    assert done.returncode == 1
    assert done.stderr.endswith("127.0.0.1:1 cannot be reached from here: is there a network?\n")


def test_a_lock_that_is_of_other_inputs_is_told_from_the_bundles_own(
    made: Place, tmp_path: Path
) -> None:
    with opened(made.bundle, lambda _: True) as found:
        own = shutil.copy(found.folder / "assembler.lock", tmp_path / "own.lock")
    words = ("extract", "--bundle", made.bundle, "--no-cache", "--output", tmp_path / "out")
    assembler(*words, "--locked", own)
    other = Place(tmp_path / "other", changes={"opt/tritonserver/more": "x"})
    lock = tmp_path / "other.lock"
    assembler("lock", *other.images, "--cache-dir", other.cache, "-o", lock)
    shutil.rmtree(tmp_path / "out")
    done = run(*words, "--locked", lock)
    assert done.returncode == 1 and "does not fit the bundle" in done.stderr
    assert not (tmp_path / "out").exists()


# -- damage --------------------------------------------------------------------------------------


def refused(*files: Path) -> str:
    """Assert that these files are no whole bundle, and return why."""
    with pytest.raises(AssemblerError) as caught, BundleFile([*files]) as found:
        found.verify()
    text = str(caught.value)
    assert "\n" not in text, text
    return text


def test_a_bit_that_flips_is_noticed_wherever_it_is(made: Place, tmp_path: Path) -> None:
    data, path = bytearray(made.bundle.read_bytes()), tmp_path / "bundle"
    chance = random.Random(6)
    bits = {*chance.sample(range(8 * len(data)), 900), *range(8 * 500, 8 * 700, 16)}
    for bit in bits:
        data[bit // 8] ^= 1 << bit % 8
        path.write_bytes(data)
        assert str(path) in refused(path)
        data[bit // 8] ^= 1 << bit % 8
    path.write_bytes(data)
    with BundleFile([path]) as whole:
        whole.verify()
    assert len(bits) >= 990


@pytest.mark.parametrize("part", [0.0, 0.001, 0.02, 0.1, 0.5, 0.9, 0.9999])
def test_a_bundle_cut_short_is_noticed(made: Place, tmp_path: Path, part: float) -> None:
    data, path = made.bundle.read_bytes(), tmp_path / "bundle"
    path.write_bytes(data[: int(len(data) * part)])
    refused(path)
    done = run("extract", "--bundle", path, "--offline", "--output", tmp_path / "out")
    assert done.returncode == 1 and done.stderr.count("\n") == 1
    assert [each.name for each in tmp_path.iterdir()] == ["bundle"]


def test_a_bundle_that_goes_on_is_noticed(made: Place, tmp_path: Path) -> None:
    path = tmp_path / "bundle"
    path.write_bytes(made.bundle.read_bytes() + b"\0")
    assert "bytes, expected" in refused(path)


@pytest.fixture
def split(made: Place, tmp_path: Path) -> list[Path]:
    """The bundle in parts, as if it were larger."""
    with BundleFile([made.bundle]) as whole:
        members = {name: tmp_path / "members" / name for name in list(whole.members)[1:]}
        for name, path in members.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(whole.read(name.rpartition("/")[2]))
        total, pieces = form.pieces(members, whole.images, 10_000)
        from assembler.bundle import parts

        found = parts.write(tmp_path / "b", pieces, 10_000, total)
    shutil.rmtree(tmp_path / "members")
    return found


def test_parts_make_the_same_image_and_cat_joins_them(split: list[Path], tmp_path: Path) -> None:
    assert len(split) == 5
    for name in ("b", "b.001"):
        words = ("--bundle", tmp_path / name, "--no-cache", "--offline", "--output")
        assembler("extract", *words, tmp_path / f"out-{name}")
    joined = tmp_path / "joined"
    joined.write_bytes(b"".join(path.read_bytes() for path in split))
    assembler("bundle", "--check", joined)
    assembler("bundle", "--check", *split)
    assert files(tmp_path / "out-b") == files(tmp_path / "out-b.001")


def _swap(split: list[Path]) -> None:
    one, other = split[1].read_bytes(), split[2].read_bytes()
    split[1].write_bytes(other)
    split[2].write_bytes(one)


def _exchange(split: list[Path]) -> None:
    one, other = split[0].read_bytes(), split[4].read_bytes()
    split[0].write_bytes(other)
    split[4].write_bytes(one)


BROKEN: dict[str, tuple[Callable[[list[Path]], object], str]] = {
    "first": (lambda split: split[0].unlink(), r"missing: .*b\.001"),
    "middle": (lambda split: split[2].unlink(), r"missing: .*b\.003"),
    "last": (lambda split: split[4].unlink(), r"missing: .*b\.005"),
    "swapped": (_swap, r"b\.002.*damaged.*swapped"),
    "first and last swapped": (
        _exchange,
        r"does not begin as a bundle",
    ),
    "short": (lambda split: split[3].write_bytes(b"x" * 99), r"b\.004 has 99 bytes, expected"),
    "more": (lambda split: split[4].with_suffix(".006").write_bytes(b"x"), r"one part too many"),
    "flipped": (
        lambda split: split[2].write_bytes(split[2].read_bytes()[:-1] + b"?"),
        r"b\.003.* is damaged",
    ),
}


@pytest.mark.parametrize("how", BROKEN)
def test_parts_that_are_missing_swapped_or_damaged(
    split: list[Path], tmp_path: Path, how: str
) -> None:
    breaks, message = BROKEN[how]
    breaks(split)
    assert re.search(message, refused(tmp_path / "b"))


def test_parts_named_out_of_order(split: list[Path]) -> None:
    assert "does not begin" in refused(*reversed(split))
    assert "damaged" in refused(split[0], split[2], split[1], *split[3:])
    assert "later part" in refused(split[1])
    assert "missing" in refused(*split[:3])


# -- made up -------------------------------------------------------------------------------------


def rewritten(made: Place, path: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    """Write the bundle with another index, all checksums right."""
    with tarfile.open(made.bundle) as tar:
        members = [(m.name, tar.extractfile(m).read()) for m in tar]  # type: ignore[union-attr]
    index = json.loads(members[1][1])
    change(index)
    data = oci.canonical(index)
    total, text = len(made.bundle.read_bytes()), members[0][1].decode().partition("head")[0]
    total += (-len(data) % 512 + len(data)) - (-len(members[1][1]) % 512 + len(members[1][1]))
    text = re.sub(r"index .*", f"index {oci.sha256(data)[7:]} {len(data)}", text)
    text = re.sub(r"bytes \d+", f"bytes {total:015}", text)
    names = [name for name, _, _ in index["members"]]
    found = [text.encode() + form._seal(text.encode()), data, *(data for _, data in members[2:])]
    with path.open("wb") as out:
        for name, content in zip(["assembler-bundle", "index.json", *names], found, strict=True):
            out.write(form._header(name, len(content)) + content + bytes(-len(content) % 512))
        out.write(bytes(1024))
    return path


def _files(index: dict[str, Any], name: str) -> None:
    found = index["images"][0]["files"]
    found[name] = found.pop("stages/server.toml")


CRAFTED: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "a member": (lambda i: i["members"][3].__setitem__(0, "sha256/../x"), r"'sha256/\.\./x'; ref"),
    "a file": (lambda i: _files(i, "stages/../../x.toml"), r"name 'stages/\.\./\.\./x.toml'; ref"),
    "a wheel": (lambda i: i["images"][0].update(wheels={"../../x.whl": "0" * 64}), r"; refused"),
    "no images": (lambda i: i.pop("images"), r"malformed index"),
    "no source": (lambda i: i["images"][0].pop("source"), r"malformed index"),
    "no member": (lambda i: i["images"][0].update(lock="0" * 64), r"malformed index"),
    "two of a kind": (lambda i: i["images"].append(i["images"][0]), r"several images, say which"),
    "another base": (
        lambda i: i["images"][0]["base"].update(i["images"][0]["source"]),
        r"lock does not fit its base|not as many layers",
    ),
}


@pytest.mark.parametrize("what", CRAFTED)
def test_a_bundle_that_was_made_up(made: Place, tmp_path: Path, what: str) -> None:
    change, message = CRAFTED[what]
    path = rewritten(made, tmp_path / "bundle", change)
    done = run("extract", "--bundle", path, "--no-cache", "--output", tmp_path / "out")
    assert done.returncode in (1, 2) and re.search(message, done.stderr), done.stderr
    assert "Traceback" not in done.stderr and done.stderr.count("\n") == 1
    assert [each.name for each in tmp_path.iterdir()] == ["bundle"]


def test_a_newer_format_and_what_is_no_bundle(made: Place, tmp_path: Path) -> None:
    path = tmp_path / "bundle"
    path.write_bytes(made.bundle.read_bytes().replace(b"assembler bundle 1", b"assembler bundle 2"))
    assert "format 2, and assembler 0.1.0 reads format 1" in refused(path)
    path.write_bytes(b"x" * 5000)
    assert "does not begin as a bundle" in refused(path)
    assert "no such bundle" in refused(tmp_path / "none")
    assert "is a folder" in refused(tmp_path)


# -- what the far side needs beside ----------------------------------------------------------------


def test_with_tools_the_far_side_needs_nothing_but_python(made: Place, tmp_path: Path) -> None:
    bundle = tmp_path / "bundle"
    made.make("-o", bundle, "--tools")
    subprocess.run(["tar", "xf", bundle, "tools", "README.txt"], check=True, cwd=tmp_path)
    assert "--no-index --find-links tools triton-assembler" in (tmp_path / "README.txt").read_text()
    venv = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", venv], check=True)
    install = ["install", "--quiet", "--no-index", "--find-links", "tools", "triton-assembler"]
    for command in (
        [venv / "bin/python", "-I", "-m", "pip", *install],
        [venv / "bin/assembler", "bundle", "--check", bundle],
        [venv / "bin/assembler", "extract", "--bundle", bundle, "--offline", "--no-cache",
         "--output", tmp_path / "out"],
    ):  # fmt: skip
        done = subprocess.run(
            [*NAMESPACE, *map(str, command)], cwd=tmp_path, capture_output=True, text=True,
            check=False, env={"PATH": "/usr/bin:/bin", "HOME": str(tmp_path)},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
    with BundleFile([bundle]) as found:
        digest = found.images[0]["image"]["digest"]
    index = json.loads((tmp_path / "out/index.json").read_text())
    assert index["manifests"][0]["digest"] == digest
