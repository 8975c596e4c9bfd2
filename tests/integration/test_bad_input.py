"""Whatever a user, a registry, an Engine or a disk does wrong: one line, a status, nothing left."""

from __future__ import annotations

import gzip
import json
import os
import re
import socket
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from assembler import oci
from tests.conftest import ROOT
from tests.integration import small
from tests.unit import fake_registry, tiny
from tests.unit.building import elf
from tests.unit.fake_registry import FakeRegistry

# The same command, less patient with registries: seconds become hundredths.
HASTY = """
import sys, assembler.__main__ as m
import assembler.registries.connections as c, assembler.registries.retries as r
r.Policy.__init__.__defaults__ = (2, 0.01, 0.01, 1.0, 2.0)
c.Connections.__init__.__defaults__ = (0.3, 0.3, None)
sys.argv[0] = "assembler"
m.main()
"""
PYTHON_BACKEND = "opt/tritonserver/backends/python"


class World:
    """A place to be wrong in. words: what is said beside source, base and output."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.temporary, self.out = folder / "tmp", folder / "out"
        self.cache, self.output = folder / "cache", folder / "out" / "slim.tar"
        for each in (self.temporary, self.out):
            each.mkdir()
        small.wheel(self.cache / "wheels")
        config = folder / "docker"
        config.mkdir()
        self.env = {"TMPDIR": str(self.temporary), "DOCKER_CONFIG": str(config)}
        self.source, self.base, self.release = "", "", "24.05"
        self.prefix: list[str] = []
        self.hasty = self.pathless = False
        self.undo: list[Callable[[], object]] = []
        self.there: list[str] = []

    def full(self, changes: small.Files | None = None, **config: Any) -> Path:
        """Make the full image, changed, and let it be the source."""
        made = small.full(self.folder / "full", changes, **config)
        self.source = f"oci:{made}"
        return made

    def other_base(self, changes: small.Files | None = None, **config: Any) -> Path:
        """Make the base, changed, and let it be the base."""
        made = small.base(self.folder / "base", changes, **config)
        self.base = f"oci:{made}"
        return made

    def file(self, name: str, data: bytes | str) -> Path:
        """Write a file."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data.encode() if isinstance(data, str) else data)
        return path

    def stages(self, **texts: str) -> list[str]:
        """Write stage files and name their folder."""
        for name, text in texts.items():
            self.file(f"stages/{name.replace('_', '-')}.toml", text)
        return ["--stages", f"{self.folder}/stages"]

    def registry(self, *faults: Any, login: Any = None, after: int = 0) -> FakeRegistry:
        """Put the full image into a registry that misbehaves; it is the source."""
        registry = FakeRegistry()
        self.undo.append(registry.close)
        registry.add("triton:1", [small.layer(small.full_files())], **small.CONFIG)
        registry.login = login
        for path, change in faults:
            registry.fault(path, change, times=99, after=after)
        self.source, self.hasty = f"{registry.host}/triton:1", True
        return registry

    def login(self, registry: FakeRegistry, user: str, password: str) -> None:
        """As `docker login` would, without asking whether it is right."""
        token = fake_registry.base64.b64encode(f"{user}:{password}".encode()).decode()
        auths = {"auths": {registry.host: {"auth": token}}}
        self.file("docker/config.json", json.dumps(auths))

    def index(self) -> None:
        """Let pip find numpy 1.26.4 and nothing else."""
        links = str(self.folder / "cache" / "wheels")
        self.env |= {"PIP_FIND_LINKS": links, "PIP_NO_INDEX": "1"}

    def disk(self, folder: Path, size: str) -> Path:
        """Mount a small disk there."""
        folder.mkdir(exist_ok=True)
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={size}", "none", folder], capture_output=True
        )
        if done.returncode:
            pytest.skip("only root may mount a small disk")
        self.undo.append(lambda: subprocess.run(["umount", "-l", folder], check=True))
        return folder

    def read_only(self, folder: Path) -> None:
        """Make a small disk there that may only be read."""
        subprocess.run(["mount", "-o", "remount,ro", self.disk(folder, "64k")], check=True)

    def powerless(self) -> None:
        """Be a user whom file modes stop; root's stop nothing."""
        if os.geteuid() == 0:
            self.prefix = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"]

    def foreign(self, path: Path) -> Path:
        """Make a path somebody else's."""
        path.chmod(0o555 if path.is_dir() else 0)
        if os.geteuid() == 0:
            os.chown(path, 65534, 65534)
        self.powerless()
        self.undo.append(lambda: path.chmod(0o700))
        return path

    def run(self, words: list[str]) -> subprocess.CompletedProcess[str]:
        """Run extract with what the case left as it should be."""
        if not self.source:
            self.full()
        if not self.base:
            self.other_base()
        if "--output" not in words and not self.pathless:
            words = [*words, "--output", str(self.output)]
        self.there = sorted(map(str, self.out.rglob("*")))
        start = ["-c", HASTY] if self.hasty else ["-m", "assembler"]
        return subprocess.run(
            [
                *self.prefix, sys.executable, *start, "extract", *self.release.split(), "-q",
                "--source", self.source, "--base", self.base, "--cache-dir", str(self.cache),
                *words,
            ],
            env=os.environ | self.env, cwd=ROOT, capture_output=True, text=True, timeout=100,
            check=False,
        )  # fmt: skip

    def check_nothing_left(self) -> None:
        """No output, no temporary folder, nothing half in the cache."""
        assert sorted(map(str, self.out.rglob("*"))) == self.there
        assert list(self.temporary.iterdir()) == []
        assert [p.name for p in self.cache.rglob("*") if p.name.startswith((".", "pip-"))] == []


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """A world that is put right again."""
    made = World(tmp_path)
    yield made
    for step in reversed(made.undo):
        step()


Case = Callable[[World], list[str]]
CASES: dict[str, tuple[int, str, Case]] = {}


def bad(status: int, line: str) -> Callable[[Case], Case]:
    """Note a case: it ends with this status, and its line matches."""

    def note(case: Case) -> Case:
        CASES[case.__name__.strip("_").replace("_", "-")] = status, line, case
        return case

    return note


# -- names ------------------------------------------------------------------------------------


@bad(2, r"'banana' is no release: .* like 24\.05")
def release_of_no_form(w: World) -> list[str]:
    w.release = "banana"
    return []


@bad(2, r"release 21\.02 is older than 22\.12")
def release_too_old(w: World) -> list[str]:
    w.release = "21.02"
    return []


@bad(2, r"is release 24\.05, not 24\.04: ask for extract 24\.05")
def release_of_another_image(w: World) -> list[str]:
    w.release = "24.04"
    return []


@bad(2, r"release 21\.08 is older than 22\.12")
def source_of_a_release_too_old(w: World) -> list[str]:
    w.release = ""
    w.full(config={"Env": ["NVIDIA_TRITON_SERVER_VERSION=21.08"]})
    return []


@bad(1, r"triton has no tag 99; it has 1, \\x1b\[2J$")
def tags_that_clear_the_screen(w: World) -> list[str]:
    registry = w.registry()
    registry.manifests["triton:\x1b[2J"] = registry.manifests["triton:1"]
    w.source = registry.host + "/triton:99"
    return []


@bad(1, r"triton has no tag 99; it has 1$")
def tag_unknown(w: World) -> list[str]:
    w.source = w.registry().host + "/triton:99"
    return []


@bad(1, r"triton@sha256:0+ .* has no such|triton@sha256:0+ is not in .*unknown")
def digest_unknown(w: World) -> list[str]:
    w.source = f"{w.registry().host}/triton@sha256:{'0' * 64}"
    return []


@bad(1, r"/nothing:1 does not exist")
def repository_unknown(w: World) -> list[str]:
    w.source = w.registry().host + "/nothing:1"
    return []


@bad(2, r"not a valid|is no image name|UPPER")
def source_name_malformed(w: World) -> list[str]:
    w.source = "UPPER/case:!"
    return []


@bad(2, r"tag")
def tag_malformed(w: World) -> list[str]:
    return ["--tag", "not a tag"]


@bad(2, r"a tag is a name, not a digest")
def tag_is_a_digest(w: World) -> list[str]:
    return ["--tag", f"x@sha256:{'0' * 64}"]


@bad(2, r"--platform: .*nonsense")
def platform_malformed(w: World) -> list[str]:
    return ["--platform", "nonsense"]


@bad(1, r"linux/s390x.*linux/amd64|linux/amd64.*linux/s390x")
def platform_absent(w: World) -> list[str]:
    return ["--platform", "linux/s390x"]


@bad(2, r"mirror 'nonsense': write FROM=TO")
def mirror_malformed(w: World) -> list[str]:
    return ["--mirror", "nonsense"]


# -- registries -------------------------------------------------------------------------------


@bad(1, r"refuses connections: is a registry running there\?")
def registry_down(w: World) -> list[str]:
    with closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        w.source, w.hasty = f"127.0.0.1:{free.getsockname()[1]}/triton:1", True
    return []


@bad(1, r"/triton:1: \S+ is too slow: nothing came for 0\.3 s")
def registry_slow(w: World) -> list[str]:
    w.registry(("manifests", fake_registry.silent(1.0)))
    return []


@bad(1, r"layer 1 of \S+ \(sha256:\w+…\): \S+ is too slow: nothing came for 0\.3 s")
def registry_slow_in_layer(w: World) -> list[str]:
    w.registry(("blobs", fake_registry.silent(1.0)), after=1)
    return []


@bad(1, r"wants a login, or has no such image: `docker login \S+` first")
def registry_401(w: World) -> list[str]:
    w.registry(login=fake_registry.Basic("joe", "right"))
    return []


@bad(1, r"refuses the login that is stored for it: `docker login \S+` again")
def password_wrong(w: World) -> list[str]:
    w.login(w.registry(login=fake_registry.Basic("joe", "right")), "joe", "wr0ng-secret")
    return []


@bad(1, r"refuses the login that is stored for it: `docker login \S+` again")
def password_wrong_for_token(w: World) -> list[str]:
    login = fake_registry.Bearer(users={"joe": "right"})
    w.login(w.registry(login=login), "joe", "wr0ng-secret")
    return []


@bad(1, r"does not let us read \S+ \(403 Forbidden: go away\): try `docker login \S+`")
def registry_403(w: World) -> list[str]:
    w.registry(("manifests", fake_registry.error(403, "DENIED", "go away")))
    return []


@bad(1, r"layer 1 of \S+ \(sha256:\w+…\) is not in ")
def registry_404(w: World) -> list[str]:
    w.registry(("blobs", fake_registry.status(404)), after=1)
    return []


@bad(1, r"limits the rate of requests \(429: slow down\): try again later")
def registry_429(w: World) -> list[str]:
    w.registry(("manifests", fake_registry.error(429, "TOOMANYREQUESTS", "slow down")))
    return []


@bad(1, r"answered 500 Internal Server Error for \S+/triton:1")
def registry_500(w: World) -> list[str]:
    w.registry(("manifests", fake_registry.status(500)))
    return []


@bad(1, r"layer 1 of \S+ \(\S+\) has digest sha256:\w+, expected sha256:\w+")
def layer_of_wrong_digest(w: World) -> list[str]:
    w.registry(("blobs", fake_registry.changed(lambda b: b[:9] + b"\7" + b[10:])), after=1)
    return []


@bad(1, r"layer 1 of \S+ \(sha256:\w+…\): \S+ broke the connection")
def layer_cut_off(w: World) -> list[str]:
    w.registry(("blobs", fake_registry.cut(100)), after=1)
    return []


@bad(1, r"the manifest \S+ is not JSON")
def manifest_is_a_web_page(w: World) -> list[str]:
    w.registry(("manifests", fake_registry.status(200, b"<html>Log in</html>")))
    return []


@bad(1, r"--offline, and not at hand: nvcr\.io\S+: name a local one with --source")
def offline_with_remote_source(w: World) -> list[str]:
    w.source = "nvcr.io/nvidia/tritonserver:24.05-py3"
    return ["--offline"]


@bad(1, r"--offline forbids to fetch it")
def offline_without_numpy(w: World) -> list[str]:
    return ["--offline", "--numpy", "1.26.3"]


# -- Engines ----------------------------------------------------------------------------------


@bad(1, r"no Docker Engine answers at unix:///nonexistent.*--output")
def no_engine(w: World) -> list[str]:
    w.env["DOCKER_HOST"], w.pathless = "unix:///nonexistent", True
    return []


@bad(1, r"no Docker Engine answers at unix:///nonexistent")
def no_engine_as_source(w: World) -> list[str]:
    w.env["DOCKER_HOST"], w.source = "unix:///nonexistent", "docker-daemon:triton:1"
    return []


@bad(1, r"no permission to use the Docker Engine at unix:.*group docker")
def engine_forbidden(w: World) -> list[str]:
    listener = socket.socket(socket.AF_UNIX)
    w.undo.append(listener.close)
    path = w.temporary.parent / "s"
    listener.bind(str(path))
    listener.listen()
    w.env["DOCKER_HOST"], w.pathless = f"unix://{w.foreign(path)}", True
    return []


# -- archives and layers ----------------------------------------------------------------------


def _archive(w: World, tags: list[str] | None = None) -> bytes:
    tars = [small.layer(small.full_files())]
    files = tiny.save_since_25(tars, tiny.config(tars, **small.CONFIG), tags or ["triton:1"])
    return tiny.tar(files)


@bad(1, r"docker-archive:\S+/a\.tar cannot be read: No such file")
def archive_absent(w: World) -> list[str]:
    w.source = f"docker-archive:{w.folder}/a.tar"
    return []


@bad(1, r"a\.tar: the archive is truncated")
def archive_truncated(w: World) -> list[str]:
    data = _archive(w)
    w.source = f"docker-archive:{w.file('a.tar', data[: len(data) // 2])}"
    return []


@bad(1, r"a\.tar: the file is not an image archive")
def archive_is_none(w: World) -> list[str]:
    w.source = f"docker-archive:{w.file('a.tar', b'hello ' * 999)}"
    return []


@bad(1, r"a\.tar: the file is empty")
def archive_is_empty(w: World) -> list[str]:
    w.source = f"docker-archive:{w.file('a.tar', b'')}"
    return []


@bad(1, r"a\.tar: no such image inside; it has triton:1")
def archive_without_that_name(w: World) -> list[str]:
    w.source = f"docker-archive:{w.file('a.tar', _archive(w))}:triton:2"
    return []


@bad(1, r"is no Triton image: it has no /opt/tritonserver")
def archive_of_another_image(w: World) -> list[str]:
    w.source = f"oci:{small.layout(w.folder / 'other', small.layer({'etc/motd': 'hello'}))}"
    return []


@bad(1, r"has no index\.json: it is no OCI layout")
def layout_is_none(w: World) -> list[str]:
    w.source = f"oci:{w.out}"
    return []


@bad(1, r"layer 1 of oci:\S+ has digest sha256:\w+, expected sha256:\w+")
def layout_with_wrong_digest(w: World) -> list[str]:
    blob = _layer_of(w.full())
    blob.write_bytes(gzip.compress(b"x" * 99)[:50].ljust(blob.stat().st_size, b"\0"))
    return []


def _layer_of(layout: Path) -> Path:
    blobs = list((layout / "blobs" / "sha256").iterdir())
    return next(each for each in blobs if each.read_bytes()[:2] == b"\x1f\x8b")


@bad(1, r"layer 1 of oci:\S+, uncompressed, has digest sha256:\w+, expected ")
def layer_of_wrong_diff_id(w: World) -> list[str]:
    w.full(rootfs={"type": "layers", "diff_ids": [oci.sha256(b"something else")]})
    return []


def _with_layer(w: World, change: Callable[[bytes], bytes]) -> None:
    """An image that names a bad layer by its right digest: broken by whoever made it."""
    made = w.full()
    old = _layer_of(made)
    data = change(old.read_bytes())
    for path in [*old.parent.iterdir(), made / "index.json"]:
        text = path.read_bytes()
        if b"schemaVersion" in text and b'"layers"' in text:
            document = json.loads(text)
            document["layers"][0] |= {"digest": oci.sha256(data), "size": len(data)}
            manifest = json.dumps(document).encode()
            path.unlink()
    (old.parent / oci.sha256(data)[7:]).write_bytes(data)
    (old.parent / oci.sha256(manifest)[7:]).write_bytes(manifest)
    described = oci.Descriptor(oci.OCI_MANIFEST, oci.sha256(manifest), len(manifest)).json()
    index = {"schemaVersion": 2, "manifests": [described]}
    (made / "index.json").write_text(json.dumps(index))


@bad(1, r"the config of oci:\S+ has an Env that is no list of texts")
def config_of_another_form(w: World) -> list[str]:
    w.full(config={"Env": [1]})
    return []


@bad(1, r"the index of 127\S+ has manifests that are none")
def index_of_another_form(w: World) -> list[str]:
    document = {"schemaVersion": 2, "mediaType": oci.OCI_INDEX, "manifests": [1]}
    w.registry().put("triton:1", oci.OCI_INDEX, json.dumps(document).encode())
    return []


@bad(1, r"127\S+ answered 418 I'm a Teapot for")
def registry_that_answers_nonsense(w: World) -> list[str]:
    w.registry(("/manifests/", fake_registry.status(418, b"[" * 60_000)))
    return []


@bad(1, r"layer 1 of oci:\S+ cannot be inflated: the compressed data stops in the middle")
def layer_with_truncated_gzip(w: World) -> list[str]:
    _with_layer(w, lambda data: data[: len(data) // 2])
    return []


@bad(1, r"layer 1 of oci:\S+ cannot be inflated: ")
def layer_with_damaged_gzip(w: World) -> list[str]:
    _with_layer(w, lambda data: data[:200] + bytes(40) + data[240:])
    return []


@bad(1, r"layer 1 of oci:\S+ has a name that leaves the image")
def layer_that_leaves_the_image(w: World) -> list[str]:
    tar = small.layer(small.full_files() | {"../../etc/cron.d/x": "x"})
    w.source = f"oci:{small.layout(w.folder / 'full', tar)}"
    return []


@bad(1, r"the config of oci:\S+ has digest sha256:\w+")
def config_is_none(w: World) -> list[str]:
    made = w.full()
    for path in (made / "blobs" / "sha256").iterdir():
        if b"rootfs" in path.read_bytes():
            path.write_bytes(b"[]".ljust(path.stat().st_size))
    return []


# -- bases ------------------------------------------------------------------------------------


@bad(1, r"/base has no package database \(/var/lib/dpkg/status\): .*--base")
def base_without_dpkg(w: World) -> list[str]:
    w.other_base({"var/lib/dpkg/status": None})
    return []


MUSL = {small.LIBC: None, small.LOADER[1:]: None, "lib/ld-musl-x86_64.so.1": elf(soname="libc.so")}


@bad(1, r"/base has no package database \(/var/lib/dpkg/status\): .*--base")
def base_of_musl(w: World) -> list[str]:
    w.other_base(MUSL | {"var/lib/dpkg/status": None})
    return []


@bad(1, r"has no glibc \(libc\.so\.6\).*--base")
def base_of_musl_with_dpkg(w: World) -> list[str]:
    w.other_base(MUSL)
    return []


@bad(1, r"/lib/\S+/libc\.so\.6 of oci:\S+ is damaged: it is truncated")
def base_of_truncated_libc(w: World) -> list[str]:
    w.other_base({small.LIBC: elf(soname="libc.so.6", offers=["GLIBC_2.35"])[:200]})
    return []


@bad(1, r"/opt/\S+ needs GLIBC_2\.34 of libc\.so\.6; the base's /\S+ goes up to GLIBC_2\.31")
def base_of_older_glibc(w: World) -> list[str]:
    w.other_base({small.LIBC: elf(soname="libc.so.6", offers=["GLIBC_2.2.5", "GLIBC_2.31"])})
    return []


# -- stages, patches, backends ----------------------------------------------------------------


@bad(
    1,
    r"stage files cannot be used:\n"
    r"  extra\.toml: \[\[take\]\] 1: key 'paths' is missing\n"
    r"  extra\.toml: \[\[take\]\] 1: unknown key 'path' \(did you mean paths\?\)\n"
    r"  more\.toml: 'order' must be a whole number, not 'low'$",
)
def stage_files_wrong(w: World) -> list[str]:
    take = '[[take]]\npath = ["etc/x"]\n'
    return w.stages(extra=f'summary = "x"\n{take}', more='summary = "x"\norder = "low"\n')


@bad(1, r"extra\.toml: .*line 1")
def stage_file_no_toml(w: World) -> list[str]:
    return w.stages(extra="summary = \n")


@bad(1, r"extra\.toml")
def stage_file_no_text(w: World) -> list[str]:
    w.file("stages/extra.toml", b"summary = '\xff'\n")
    return ["--stages", f"{w.folder}/stages"]


@bad(2, r"--stages \S+: no such folder")
def stage_folder_absent(w: World) -> list[str]:
    return ["--stages", str(w.folder / "none")]


@bad(
    1,
    r"the selection does not fit the image:\n"
    r"  extra\.toml: no package 'nonesuch' is installed\n"
    r"  extra\.toml: nothing matches 'opt/a/\*'\n"
    r"  extra\.toml: nothing matches 'opt/b'$",
)
def patterns_that_match_nothing(w: World) -> list[str]:
    text = 'summary = "x"\npackages = ["nonesuch"]\n[[take]]\npaths = ["opt/a/*", "/opt/b"]\n'
    return w.stages(extra=text)


@bad(1, r"/etc/pip\.conf is taken by \S+ .*, with other content, by \S+")
def stages_at_odds(w: World) -> list[str]:
    return w.stages(extra='summary = "x"\n[[file]]\npath = "etc/pip.conf"\ntext = "mine"\n')


@bad(1, r"numpy-guard\.patch does not apply to /opt/\S+_utils\.py of 24\.05")
def patch_that_does_not_apply(w: World) -> list[str]:
    w.full({f"{PYTHON_BACKEND}/triton_python_backend_utils.py": "import nothing\n" * 99})
    return []


@bad(2, r"no stage file for backend 'nonesuch'; there are .*onnxruntime, .*python")
def backend_unknown(w: World) -> list[str]:
    return ["--backend", "nonesuch"]


@bad(2, r"backend 'tensorrt' is refused: it runs on a GPU only")
def backend_for_gpus(w: World) -> list[str]:
    return ["--backend", "tensorrt"]


@bad(1, r"has no backend 'openvino'; it has onnxruntime, python")
def backend_that_the_image_has_not(w: World) -> list[str]:
    return ["--backend", "openvino"]


@bad(2, r"--keep nonesuch: no stage of this image knows it; there are openvino")
def keep_unknown(w: World) -> list[str]:
    return ["--keep", "nonesuch"]


@bad(2, r"none/Dockerfile cannot be read: No such file")
def dockerfile_absent(w: World) -> list[str]:
    return ["--dockerfile", str(w.folder / "none/Dockerfile")]


@bad(2, r"RUN 'true' .* needs a daemon: use --builder engine")
def dockerfile_with_run(w: World) -> list[str]:
    return [
        "--dockerfile",
        str(w.file("Dockerfile", "ARG BASE\nFROM ${BASE}\n# assembler: stages\nRUN true\n")),
    ]


# -- numpy ------------------------------------------------------------------------------------


@bad(2, r"--numpy 'latest' is not a version")
def numpy_no_version(w: World) -> list[str]:
    return ["--numpy", "latest"]


@bad(1, r"numpy 2\.0\.1 does not work with Triton 24\.05.*choose --numpy 1\.26\.4")
def numpy_2(w: World) -> list[str]:
    return ["--numpy", "2.0.1"]


@bad(1, r"numpy 1\.99\.0 does not exist or has no wheel for .*there are 1\.26\.4 to 1\.26\.4")
def numpy_unknown(w: World) -> list[str]:
    w.index()
    return ["--numpy", "1.99.0"]


@bad(1, r"numpy 1\.19\.5 .* no wheel for Python 3\.10 on x86_64, glibc 2\.35; .*--numpy")
def numpy_without_wheel(w: World) -> list[str]:
    w.index()
    return ["--numpy", "1.19.5"]


@bad(1, r"pip cannot fetch numpy 1\.26\.4|numpy 1\.26\.4.*--offline forbids")
def numpy_wheel_damaged(w: World) -> list[str]:
    """It is thrown away, and there is no other."""
    w.file("cache/wheels/numpy-1.26.4-py3-none-any.whl", b"PK\3\4 not a zip")
    w.env |= {"PIP_NO_INDEX": "1"}
    return []


@bad(2, r"SOURCE_DATE_EPOCH='yesterday' is not a number of seconds")
def source_date_epoch_malformed(w: World) -> list[str]:
    w.env["SOURCE_DATE_EPOCH"] = "yesterday"
    return []


@bad(2, r"SOURCE_DATE_EPOCH")
def source_date_epoch_beyond_time(w: World) -> list[str]:
    w.env["SOURCE_DATE_EPOCH"] = "999999999999"
    return []


# -- disks ------------------------------------------------------------------------------------


@bad(1, r"cannot write \S+slim\.tar: No space left on device")
def output_disk_full(w: World) -> list[str]:
    w.disk(w.out, "12k")
    return []


@bad(1, r"cannot write \S+slim: No space left on device")
def output_disk_full_for_layout(w: World) -> list[str]:
    w.disk(w.out, "24k")
    return ["--output", str(w.out / "slim")]


@bad(1, r"cannot write into \S+: it is on a read-only file system")
def output_read_only(w: World) -> list[str]:
    w.read_only(w.out)
    return []


@bad(1, r"cannot write into \S+: no permission")
def output_forbidden(w: World) -> list[str]:
    w.foreign(w.out)
    return []


@bad(1, r"slim\.tar exists already: remove it or choose another name")
def output_exists(w: World) -> list[str]:
    w.output.write_text("mine")
    return []


@bad(1, r"out exists already and is not empty")
def output_folder_exists(w: World) -> list[str]:
    w.output.write_text("mine")
    return ["--output", str(w.out)]


@bad(1, r"the folder \S+/none does not exist: make it first")
def output_folder_absent(w: World) -> list[str]:
    return ["--output", str(w.out / "none/slim.tar")]


@bad(1, r"the disk of \S+ is full \(No space left on device\): .*TMPDIR")
def temporary_disk_full(w: World) -> list[str]:
    w.disk(w.temporary, "8k")
    return ["--no-cache"]


@bad(1, r"the folder \S+/none does not exist: make it first")
def record_cannot_be_written(w: World) -> list[str]:
    return ["--record", str(w.folder / "none/record.json")]


@pytest.mark.parametrize("name", CASES)
def test_bad_input(world: World, name: str) -> None:
    status, line, case = CASES[name]
    words = case(world)
    done = world.run(words)
    print(done.stderr)
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    assert done.stderr.startswith("assembler: ")
    assert [each for each in done.stderr.splitlines()[1:] if not each.startswith("  ")] == []
    assert re.search(line, done.stderr.rstrip())
    assert "secret" not in done.stderr
    assert done.returncode == status
    world.check_nothing_left()


# -- what is odd but works ----------------------------------------------------------------------


def _output_of(world: World, words: list[str]) -> str:
    done = world.run(words)
    assert done.returncode == 0, done.stderr
    assert world.output.exists()
    assert list(world.temporary.iterdir()) == []
    print(done.stderr)
    return done.stderr


def test_base_with_a_newer_glibc_works(world: World) -> None:
    offers = [*small.GLIBC, "GLIBC_2.39"]
    world.other_base({small.LIBC: elf(soname="libc.so.6", offers=offers)})
    assert _output_of(world, []) == ""


@pytest.mark.parametrize("how", ["read-only", "full", "forbidden"])
def test_cache_that_cannot_be_written_costs_one_warning(world: World, how: str) -> None:
    world.cache = world.folder / "other-cache"
    if how == "read-only":
        world.read_only(world.cache)
    elif how == "full":
        world.disk(world.cache, "4k")
        (world.cache / "wheels").mkdir()
        with pytest.raises(OSError), (world.cache / "fill").open("wb") as file:
            file.write(bytes(1 << 20))
    else:
        world.cache.mkdir()
        world.foreign(world.cache)
    world.index()
    said = _output_of(world, [])
    assert re.fullmatch(r"warning: .*cache.*\n", said)


def test_fixture_images_work(world: World) -> None:
    assert _output_of(world, []) == ""
    with tarfile.open(world.output) as archive:
        assert "manifest.json" in archive.getnames()
