"""docker-archive:, oci-archive:, oci: give the image that was put in, or one line that helps."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from assembler import oci
from assembler.errors import AssemblerError, SourceError, VerificationError
from assembler.reference import Reference
from assembler.sources.archive import ArchiveSource, open_archive
from tests.unit import tiny
from tests.unit.tiny import AMD64, Files, contents

ONE, TWO = tiny.layer("one", text="1"), tiny.layer("two", text="2")
TARS = [ONE, TWO]
CONFIG = tiny.config(TARS)
NAME = "nvcr.io/nvidia/tritonserver:24.05-py3"


def opened(text: str, platform: oci.Platform = AMD64) -> ArchiveSource:
    return open_archive(Reference.parse(text), platform)


def written(path: Path, files: Files) -> Path:
    """The files as an archive at `path`."""
    path.write_bytes(tiny.tar(files))
    return path


def unpacked(path: Path, files: Files) -> Path:
    """The files as a folder at `path`."""
    for name, content in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        assert isinstance(content, bytes)
        (path / name).write_bytes(content)
    return path


def refusal(text: str, platform: oci.Platform = AMD64) -> str:
    """The line that the user sees; reading all layers where opening alone is not refused."""
    with pytest.raises(AssemblerError) as caught:
        contents(opened(text, platform))
    assert "\n" not in str(caught.value)
    return str(caught.value)


# -- what is read -------------------------------------------------------------------------

KINDS: list[tuple[str, str, Callable[[], Files]]] = [
    ("before Docker 25", "docker-archive", lambda: tiny.save_before_25(TARS, CONFIG, [NAME])),
    ("since Docker 25", "docker-archive", lambda: tiny.save_since_25(TARS, CONFIG, [NAME])),
    ("containerd, gzip", "docker-archive", lambda: tiny.save_since_25(TARS, CONFIG, None, "gzip")),
    ("containerd, zstd", "docker-archive", lambda: tiny.save_since_25(TARS, CONFIG, None, "zstd")),
    ("OCI, plain", "oci-archive", lambda: tiny.save_since_25(TARS, CONFIG, None)),
    ("OCI, two members", "oci-archive", lambda: tiny.save_since_25(TARS, CONFIG, None, "members")),
    ("OCI, zstd", "oci-archive", lambda: tiny.save_since_25(TARS, CONFIG, None, "zstd")),
]  # fmt: skip


@pytest.mark.parametrize(("transport", "files"), [k[1:] for k in KINDS], ids=[k[0] for k in KINDS])
def test_every_kind_of_archive_gives_the_same_image(
    tmp_path: Path, transport: str, files: Callable[[], Files]
) -> None:
    path = written(tmp_path / "image.tar", files())
    source = opened(f"{transport}:{path}")
    assert source.config == CONFIG
    assert source.diff_ids == (oci.sha256(ONE), oci.sha256(TWO))
    assert contents(source) == TARS
    assert (source.digest is None) == (transport == "docker-archive")


def test_a_layout_folder_gives_the_same_image(tmp_path: Path) -> None:
    source = opened(f"oci:{unpacked(tmp_path / 'layout', tiny.save_since_25(TARS, CONFIG, None))}")
    assert (source.config, contents(source)) == (CONFIG, TARS)
    assert oci.is_digest(source.digest)


def test_only_the_layers_asked_for_are_read(tmp_path: Path) -> None:
    files = dict(tiny.save_since_25(TARS, CONFIG, None))
    files[f"blobs/sha256/{oci.sha256(ONE)[7:]}"] = b"x" * len(ONE)
    source = opened(f"docker-archive:{written(tmp_path / 'i.tar', files)}")
    assert source.read([1], tiny.read_all) == {1: TWO}


def test_layers_that_are_links_to_an_equal_one_are_read_through_the_link(tmp_path: Path) -> None:
    tars = [ONE, TWO, ONE]
    files = tiny.save_before_25(tars, tiny.config(tars), None)
    assert any(isinstance(content, str) for content in files.values())
    source = opened(f"docker-archive:{written(tmp_path / 'i.tar', files)}")
    assert contents(source) == tars


def test_copied_layers_are_as_stored_and_named_by_digest(tmp_path: Path) -> None:
    path = written(tmp_path / "i.tar", tiny.save_since_25(TARS, CONFIG, None, "zstd"))
    for _ in range(2):  # The second time they are there already.
        copied = opened(f"oci-archive:{path}").copy_layers(tmp_path / "blobs")
        assert [c.media_type for c in copied] == [f"{oci.OCI_LAYER}+zstd"] * 2
        for descriptor, tar in zip(copied, TARS, strict=True):
            blob = (tmp_path / "blobs" / "sha256" / descriptor.digest[7:]).read_bytes()
            assert (oci.sha256(blob), len(blob)) == (descriptor.digest, descriptor.size)
            assert blob == tiny.pack(tar, "zstd")
    assert len(list((tmp_path / "blobs" / "sha256").iterdir())) == 2


def test_bytes_read_are_told(tmp_path: Path) -> None:
    path = written(tmp_path / "i.tar", tiny.save_before_25(TARS, CONFIG, None))
    told: list[int] = []
    contents(open_archive(Reference.parse(f"docker-archive:{path}"), AMD64, told.append))
    assert sum(told) == len(ONE) + len(TWO)


# -- which image --------------------------------------------------------------------------


def two_images() -> Files:
    """An archive as of `docker save one two`."""
    other = tiny.config([TWO])
    files = dict(tiny.save_before_25(TARS, CONFIG, [NAME]))
    more = dict(tiny.save_before_25([TWO], other, ["ubuntu:22.04"]))
    entries = [json.loads(each.pop("manifest.json") or b"")[0] for each in (files, more)]  # type: ignore[arg-type]
    return files | more | {"manifest.json": json.dumps(entries).encode()}


@pytest.mark.parametrize(
    ("within", "layers"),
    [
        (NAME, 2),
        ("ubuntu:22.04", 1),
        ("docker.io/library/ubuntu:22.04", 1),
        ("@0", 2),
        ("@1", 1),
        (oci.sha256(CONFIG), 2),
    ],
)
def test_an_image_of_several_is_chosen_by_name_number_or_id(
    tmp_path: Path, within: str, layers: int
) -> None:
    path = written(tmp_path / "two.tar", two_images())
    assert len(opened(f"docker-archive:{path}:{within}").diff_ids) == layers


def test_several_images_and_no_name_lists_them(tmp_path: Path) -> None:
    line = refusal(f"docker-archive:{written(tmp_path / 'two.tar', two_images())}")
    assert "several images" in line and NAME in line and "ubuntu:22.04" in line


def test_another_image_inside_is_named(tmp_path: Path) -> None:
    path = written(tmp_path / "i.tar", tiny.save_before_25(TARS, CONFIG, [NAME]))
    line = refusal(f"docker-archive:{path}:ubuntu:22.04")
    assert line.endswith(f"no such image inside; it has {NAME}")


def oci_index(tmp_path: Path, entries: list[dict[str, object]], files: Files) -> Path:
    index = {"schemaVersion": 2, "manifests": entries}
    return written(tmp_path / "i.tar", dict(files) | {"index.json": json.dumps(index).encode()})


def described(files: Files, **more: object) -> dict[str, object]:
    raw = files["index.json"]
    assert isinstance(raw, bytes)
    entry: dict[str, object] = json.loads(raw)["manifests"][0]
    return entry | more


def test_a_platform_is_chosen_and_attestations_are_not(tmp_path: Path) -> None:
    amd = tiny.save_since_25(TARS, CONFIG, None)
    arm_config = tiny.config([TWO], architecture="arm64", variant="v8")
    arm = tiny.save_since_25([TWO], arm_config, None)
    attestation = described(
        amd,
        platform={"os": "unknown", "architecture": "unknown"},
        annotations={"vnd.docker.reference.type": "attestation-manifest"},
    )
    entries = [
        attestation,
        described(arm, platform={"os": "linux", "architecture": "arm64", "variant": "v8"}),
        described(amd, platform={"os": "linux", "architecture": "amd64"}),
    ]
    nested = oci.canonical({"schemaVersion": 2, "mediaType": oci.OCI_INDEX, "manifests": entries})
    inner = oci.Descriptor(oci.OCI_INDEX, oci.sha256(nested), len(nested)).json()
    blob = {f"blobs/sha256/{oci.sha256(nested)[7:]}": nested}
    for top in (entries, [inner]):
        path = oci_index(tmp_path, top, dict(amd) | dict(arm) | blob)
        assert opened(f"oci-archive:{path}").config == CONFIG
        assert opened(f"oci-archive:{path}", oci.Platform("linux", "arm64")).config == arm_config
        line = refusal(f"oci-archive:{path}", oci.Platform("linux", "ppc64le"))
        assert "no image for linux/ppc64le; it has linux/amd64, linux/arm64/v8" in line


@pytest.mark.parametrize("within", ["24.05-py3", NAME, "amd"])
def test_an_oci_image_is_chosen_by_any_of_its_names(tmp_path: Path, within: str) -> None:
    files, other_config = tiny.save_since_25(TARS, CONFIG, None), tiny.config([TWO])
    other = tiny.save_since_25([TWO], other_config, None)
    names = {"io.containerd.image.name": NAME, "org.opencontainers.image.ref.name": "24.05-py3"}
    entries = [
        described(files, annotations=names),
        described(files, annotations={"org.opencontainers.image.ref.name": "amd"}),
        described(other, annotations={"io.containerd.image.name": "docker.io/library/other:1"}),
    ]
    path = oci_index(tmp_path, entries, dict(files) | dict(other))
    assert opened(f"oci-archive:{path}:{within}").config == CONFIG
    assert opened(f"oci-archive:{path}:other:1").config == other_config
    assert "several images: say which by adding :NAME" in refusal(f"oci-archive:{path}")
    assert "it has amd, nvcr.io" in refusal(f"oci-archive:{path}:nothing")


def test_a_wrong_platform_in_a_docker_archive(tmp_path: Path) -> None:
    path = written(tmp_path / "i.tar", tiny.save_before_25(TARS, CONFIG, [NAME]))
    line = refusal(f"docker-archive:{path}", oci.Platform("linux", "arm64"))
    assert "no image for linux/arm64; it has linux/amd64" in line


# -- what is wrong with the file ----------------------------------------------------------


def test_no_such_file(tmp_path: Path) -> None:
    for transport in ("docker-archive", "oci-archive", "oci"):
        assert "No such file or directory" in refusal(f"{transport}:{tmp_path / 'none.tar'}")


def test_no_permission(tmp_path: Path) -> None:
    path = written(tmp_path / "i.tar", tiny.save_before_25(TARS, CONFIG, None))
    path.chmod(0)
    with tiny.as_nobody():
        assert "Permission denied" in refusal(f"docker-archive:{path}")


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (b"", "the file is empty"),
        (gzip.compress(tiny.layer("x")), "compressed with gzip: decompress it first"),
        (tiny.pack(tiny.layer("x"), "zstd"), "compressed with zstd: decompress it first"),
        (b"\xfd7zXZ\0" * 200, "compressed with xz: decompress it first"),
        (b"PK\x03\x04" * 200, "a zip file"),
        (b"<!DOCTYPE html>" * 100, "a web page"),
        (b'{"errors": []}' * 100, "JSON text"),
        (b"hello" * 200, "its first bytes are b'hellohel'"),
        (tiny.layer("some/file"), "it is no `docker save` archive"),
    ],
)
def test_what_is_no_image_archive_is_told_for_what_it_is(
    tmp_path: Path, content: bytes, line: str
) -> None:
    path = tmp_path / "i.tar"
    path.write_bytes(content)
    assert line in refusal(f"docker-archive:{path}")


def test_folder_for_archive_and_archive_for_folder(tmp_path: Path) -> None:
    path = written(tmp_path / "i.tar", tiny.save_before_25(TARS, CONFIG, None))
    assert "write oci:PATH for a layout folder" in refusal(f"docker-archive:{tmp_path}")
    assert "write oci-archive:FILE" in refusal(f"oci:{path}")


def test_a_docker_archive_given_as_oci_archive_and_the_reverse(tmp_path: Path) -> None:
    path = written(tmp_path / "d.tar", tiny.save_before_25(TARS, CONFIG, None))
    assert "write docker-archive: for oci-archive:" in refusal(f"oci-archive:{path}")
    files = dict(tiny.save_since_25(TARS, CONFIG, None))
    del files["manifest.json"]
    path = written(tmp_path / "o.tar", files)
    assert "write oci-archive: for docker-archive:" in refusal(f"docker-archive:{path}")


@pytest.mark.parametrize("part", [0.2, 0.5, 0.9])
def test_a_truncated_archive(tmp_path: Path, part: float) -> None:
    path = tmp_path / "i.tar"
    whole = tiny.tar(tiny.save_since_25([tiny.layer(*"abcdefgh")], CONFIG, None))
    end = len(whole.rstrip(b"\0"))
    path.write_bytes(whole[: int(end * part)])
    assert "truncated" in refusal(f"docker-archive:{path}")


@pytest.mark.parametrize("name", ["../evil", "a/../../evil", "/etc/passwd"])
def test_a_path_that_leads_out_of_the_archive(tmp_path: Path, name: str) -> None:
    files = dict(tiny.save_before_25(TARS, CONFIG, None))
    assert "leads out of the archive" in refusal(
        f"docker-archive:{written(tmp_path / 'i.tar', files | {name: b'x'})}"
    )
    entry = [{"Config": name, "RepoTags": None, "Layers": []}]
    files["manifest.json"] = json.dumps(entry).encode()
    assert "leads out of the archive" in refusal(
        f"docker-archive:{written(tmp_path / 'i.tar', files)}"
    )


def test_a_link_that_leads_out_of_the_archive(tmp_path: Path) -> None:
    files = dict(tiny.save_before_25(TARS, CONFIG, None)) | {"x/layer.tar": "../../etc/shadow"}
    assert "leads out" in refusal(f"docker-archive:{written(tmp_path / 'i.tar', files)}")


def test_a_missing_blob_is_told_before_anything_is_read(tmp_path: Path) -> None:
    for how, transport in (("", "docker-archive"), ("gzip", "oci-archive")):
        files = dict(tiny.save_since_25(TARS, CONFIG, None, how))
        name = f"blobs/sha256/{oci.sha256(tiny.pack(TWO, how))[7:]}"
        del files[name]
        with pytest.raises(SourceError, match=f"has no {name}"):
            opened(f"{transport}:{written(tmp_path / 'i.tar', files)}")


@pytest.mark.parametrize("transport", ["docker-archive", "oci-archive"])
def test_a_layer_with_another_digest(tmp_path: Path, transport: str) -> None:
    files = dict(tiny.save_since_25(TARS, CONFIG, None))
    files[f"blobs/sha256/{oci.sha256(TWO)[7:]}"] = TWO[:-1] + b"x"
    line = refusal(f"{transport}:{written(tmp_path / 'i.tar', files)}")
    assert "layer 2 of" in line and f"expected {oci.sha256(TWO)}" in line


def test_a_layer_with_another_diff_id(tmp_path: Path) -> None:
    other = tiny.layer("three")
    files = tiny.save_before_25([ONE, other], CONFIG, None)
    line = refusal(f"docker-archive:{written(tmp_path / 'i.tar', files)}")
    assert "layer 2 of" in line and f"uncompressed, has digest {oci.sha256(other)}" in line


def test_a_layer_whose_gzip_stops_in_the_middle(tmp_path: Path) -> None:
    cut = tiny.pack(TWO, "gzip")[:-20]
    files = dict(tiny.save_before_25([ONE, cut], CONFIG, None))
    line = refusal(f"docker-archive:{written(tmp_path / 'i.tar', files)}")
    assert "layer 2 of" in line and "stops in the middle" in line


def test_wrong_layers_are_not_copied(tmp_path: Path) -> None:
    files = tiny.save_before_25([ONE, tiny.layer("three")], CONFIG, None)
    source = opened(f"docker-archive:{written(tmp_path / 'i.tar', files)}")
    with pytest.raises(VerificationError):
        source.copy_layers(tmp_path / "blobs")
    kept = [each.name for each in (tmp_path / "blobs" / "sha256").iterdir()]
    assert kept in ([], [oci.sha256(ONE)[7:]])


def test_a_config_that_is_not_what_its_name_says(tmp_path: Path) -> None:
    files = dict(tiny.save_before_25(TARS, CONFIG, None))
    files[f"{oci.sha256(CONFIG)[7:]}.json"] = CONFIG + b" "
    line = refusal(f"docker-archive:{written(tmp_path / 'i.tar', files)}")
    assert f"expected {oci.sha256(CONFIG)}" in line


def test_a_config_with_more_layers_than_the_archive(tmp_path: Path) -> None:
    files = tiny.save_before_25([ONE], CONFIG, None)
    line = refusal(f"docker-archive:{written(tmp_path / 'i.tar', files)}")
    assert "manifest.json has 1 layers, the config 2" in line


@pytest.mark.parametrize("text", [b"nonsense", b'{"a": 1}', b"[1]", b"[]"])
def test_a_manifest_json_that_is_none(tmp_path: Path, text: bytes) -> None:
    files = dict(tiny.save_before_25(TARS, CONFIG, None)) | {"manifest.json": text}
    line = refusal(f"docker-archive:{written(tmp_path / 'i.tar', files)}")
    assert "not a list of images" in line or "no image inside" in line
