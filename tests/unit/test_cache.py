"""The folder that outlives a run: whole files or none, whatever the disk and other runs do."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from assembler import cli
from assembler.caching.cache import Cache
from tests.conftest import ROOT
from tests.integration.shortcuts import Place
from tests.unit import fake_registry


def test_a_disk_without_hard_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    said: list[str] = []
    cache = Cache(tmp_path / "cache", said.append)
    (tmp_path / "file").write_bytes(b"data")
    digest = f"sha256:{hashlib.sha256(b'data').hexdigest()}"
    cache.add_blob(digest, tmp_path / "file")
    found = cache.blob(digest, tmp_path / "into")
    assert found is not None and found.read_bytes() == b"data"
    assert said == []


def test_a_damaged_blob_gives_way(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cache", print)
    (tmp_path / "file").write_bytes(b"data")
    digest = f"sha256:{hashlib.sha256(b'data').hexdigest()}"
    for _ in range(2):
        cache.add_blob(digest, tmp_path / "file")
        (kept,) = (tmp_path / "cache" / "blobs" / "sha256").iterdir()
        kept.unlink()
        kept.write_bytes(b"dat4")
        assert cache.blob(digest, tmp_path / "into") is None
    cache.add_blob(digest, tmp_path / "file")
    assert cache.blob(digest, tmp_path / "into") is not None


@pytest.mark.parametrize("kind", ["a file in its place", "no more room"])
def test_a_folder_that_cannot_be_used_costs_one_warning(tmp_path: Path, kind: str) -> None:
    folder, said = tmp_path / "cache", list[str]()
    if kind == "a file in its place":
        folder.write_text("mine")
    else:
        folder.mkdir()
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16k", "none", folder])
        if done.returncode:
            pytest.skip("only root may mount a small disk")
    try:
        cache = Cache(folder, said.append)
        for number in range(9):
            cache.put(f"a/{number}", bytes(9000))
            assert cache.get(f"a/{number}") in (None, bytes(9000))
        assert len(said) == 1
        assert list(tmp_path.rglob("a/.*")) == []
    finally:
        if folder.is_dir():
            subprocess.run(["umount", folder], check=True)


def test_pruned_to_the_limit_oldest_first(tmp_path: Path) -> None:
    cache = Cache(tmp_path, print)
    for number in range(5):
        cache.put(f"tags/{number:064}", bytes(1000), sealed=False)
        os.utime(tmp_path / f"tags/{number:064}", (number, number))
    assert cache.get(f"tags/{0:064}") is None  # Not sealed.
    assert [int(each.path.name) for each in cache.prune(limit=2500)] == [0, 1, 2]
    assert cache.prune(limit=2500) == []


def test_other_files_of_the_folder_are_not_touched(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = Place(tmp_path, capsys)
    try:
        assert place.extract("a", "--index").status == 0
    finally:
        place.registry.close()
    kept = {path for path in place.cache.rglob("*") if path.is_file()}
    cache = Cache(place.cache, pytest.fail)
    assert {each.path for each in cache.files()} == kept, "all that a run keeps is known"
    others = ["thesis.txt", "stages/server.toml", "tmp/mine/a", "photos/a.jpg", "wheels/README"]
    for name in others:
        (place.cache / name).parent.mkdir(exist_ok=True)
        (place.cache / name).write_text("mine")
    for path in place.cache.rglob("*"):
        os.utime(path, (0, 0))
    assert {each.path for each in cache.prune(limit=0)} == kept
    assert all((place.cache / name).read_text() == "mine" for name in others)


def test_pruned_while_others_write_and_leave(tmp_path: Path) -> None:
    caches = [Cache(tmp_path, pytest.fail) for _ in range(2)]
    end = time.monotonic() + 1
    wrong: list[BaseException] = []

    def work(number: int) -> None:
        try:
            while time.monotonic() < end:
                scratch = caches[0].scratch()
                assert scratch is not None
                (scratch / f"assembler-{number}").mkdir()
                caches[0].put(f"tags/{number:064}", b"x" * 5000)
                assert caches[0].get(f"tags/{number:064}") in (None, b"x" * 5000)
                (scratch / f"assembler-{number}").rmdir()
        except BaseException as error:
            wrong.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    while time.monotonic() < end:
        caches[1].prune(limit=0)
    for thread in threads:
        thread.join()
    assert wrong == []


@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGINT])
def test_finished_layers_of_a_stopped_run_stay(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], signum: signal.Signals
) -> None:
    place = Place(tmp_path, capsys)
    try:
        layers = json.loads(place.registry.manifests["triton:a"][1])["layers"]
        place.registry.fault(layers[2]["digest"], fake_registry.silent(20))
        words = [sys.executable, "-m", "assembler", *place.words("a")]
        run = subprocess.Popen([*words, "--output", tmp_path / "x"], cwd=ROOT, stderr=-3)
        until = time.monotonic() + 20
        while len(list(place.cache.rglob("layers/*/listing-*"))) < 3 and time.monotonic() < until:
            time.sleep(0.02)
        run.send_signal(signum)
        assert run.wait(20) != 0
        # Two of the image and one of the base are known.
        right = place.plain("a").tree
        assert place.extract("a").tree == right
        config = json.loads(place.registry.manifests["triton:a"][1])["config"]["digest"]
        assert set(place.blobs()) - {f"/v2/triton/blobs/{config}"} == {
            f"/v2/triton/blobs/{layers[2]['digest']}"
        }
    finally:
        place.registry.close()


def test_two_runs_at_once_while_it_is_cleared(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = Place(tmp_path, capsys)
    try:
        right = place.plain("a").tree
        words = [sys.executable, "-m", "assembler", *place.words("a")]
        runs = [
            subprocess.Popen([*words, "--output", tmp_path / name], cwd=ROOT, stderr=-3)
            for name in ("x", "y")
        ]
        cache = Cache(place.cache, pytest.fail)
        while any(run.poll() is None for run in runs):
            for each in cache.files():
                if "wheels" not in each.path.parts and "tmp" not in each.path.parts:
                    each.path.unlink(missing_ok=True)
            time.sleep(0.01)
        for name in ("x", "y"):
            files = [path for path in (tmp_path / name).rglob("*") if path.is_file()]
            assert {str(p.relative_to(tmp_path / name)): p.read_bytes() for p in files} == right
    finally:
        place.registry.close()


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cache = Cache(tmp_path, print)
    cache.put(f"stages/{0:064}-tar", bytes(2000), sealed=False)
    at = ["--cache-dir", str(tmp_path)]
    assert cli.run(["cache", *at]) == 0
    assert f"2.0 kB in {tmp_path}" in capsys.readouterr().out
    assert cli.run(["cache", "show", "--json", *at]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert (shown["size"], shown["kinds"]["stages"]["files"]) == (2000, 1)
    assert cli.run(["cache", "prune", "--older-than", "1d", *at]) == 0
    assert capsys.readouterr().out == "removed 0 files, 0 B\n"
    assert cli.run(["cache", "clear", "--max-size", "1k", *at]) == 2
    assert cli.run(["cache", "clear", "--json", *at]) == 0
    assert json.loads(capsys.readouterr().out) == {"removed": {"files": 1, "size": 2000}}
    assert cli.run(["cache", "--cache-dir", str(tmp_path / "nowhere")]) == 0
    for wrong in ("12 parsecs", "-1", ""):
        with pytest.raises(SystemExit):
            cli.run(["cache", "prune", f"--older-than={wrong}", *at])
