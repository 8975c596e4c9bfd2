"""The same against Debian's `docker-registry` (distribution 2.8), with a login in front."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from assembler import oci
from assembler.errors import SourceError
from assembler.reference import ImageName
from assembler.registries.client import RegistryClient
from assembler.registries.credentials import Credentials
from assembler.sources.registry import RegistrySource
from tests.unit import tiny
from tests.unit.tiny import AMD64, contents

pytestmark = pytest.mark.skipif(
    shutil.which("docker-registry") is None, reason="docker-registry is not installed"
)

LOGIN = ("me", "secret")
# Of the password above; the registry takes bcrypt alone.
BCRYPT = "$2b$04$abcdefghijklmnopqrstuu2r9OfJnfCsdneAXAGHnS4UpFFP8WIrW"


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("registry")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    (folder / "users").write_text(f"me:{BCRYPT}\n")
    config = {
        "version": "0.1",
        "log": {"level": "error", "accesslog": {"disabled": True}},
        "storage": {"filesystem": {"rootdirectory": str(folder / "data")}},
        "http": {"addr": address},
        "auth": {"htpasswd": {"realm": "here", "path": str(folder / "users")}},
    }
    (folder / "config.yml").write_text(json.dumps(config))
    command = ["docker-registry", "serve", str(folder / "config.yml")]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            for _ in range(100):
                with socket.socket() as probe:
                    if probe.connect_ex(("127.0.0.1", int(address.split(":")[1]))) == 0:
                        break
                time.sleep(0.1)
            yield address
        finally:
            process.terminate()
            process.wait()


def push(host: str, folder: Path, name: str, tag: str, tars: list[bytes], how: str) -> str:
    """Put an image into the registry, with nothing but requests; return its digest."""
    image = tiny.image(folder, tars, how)
    url = f"http://{host}/v2/{name}"
    with requests.Session() as session:
        session.trust_env, session.auth = False, LOGIN
        for blob in (image.config, *(layer.path.read_bytes() for layer in image.layers)):
            place = session.post(f"{url}/blobs/uploads/").headers["Location"]
            query = {"digest": oci.sha256(blob)}
            session.put(place, params=query, data=blob).raise_for_status()
        session.put(
            f"{url}/manifests/{tag}",
            data=image.manifest,
            headers={"Content-Type": oci.OCI_MANIFEST},
        ).raise_for_status()
    return image.digest


@pytest.mark.parametrize("how", ["gzip", "zstd", ""])
def test_an_image_comes_back(host: str, tmp_path: Path, how: str) -> None:
    tars = [tiny.layer("one"), tiny.layer("two")]
    digest = push(host, tmp_path / "in", "nvidia/server", f"as-{how}", tars, how)
    client = RegistryClient(find=lambda _: Credentials(*LOGIN))
    source = RegistrySource(ImageName.parse(f"{host}/nvidia/server:as-{how}"), AMD64, client)
    assert (source.digest, contents(source)) == (digest, tars)
    descriptors = source.copy_layers(tmp_path / "out")
    for each in descriptors:
        path = Path("sha256") / each.digest[7:]
        assert (tmp_path / "out" / path).read_bytes() == (tmp_path / "in" / path).read_bytes()
    with client.open_blob(source._name, descriptors[0], "a layer") as blob:
        # Its own ranges are what a broken download goes on with.
        blob._position = 10
        stored = (tmp_path / "in" / "sha256" / descriptors[0].digest[7:]).read_bytes()
        assert blob.read() == stored[10:]
    client.close()


@pytest.mark.parametrize(
    ("summary", "image", "login", "said"),
    [
        ("no login", "nvidia/server:x", None, "wants a login, or has no such image: `docker"),
        ("wrong password", "nvidia/server:x", ("me", "no"), "refuses the login that is stored"),
        ("no such tag", "nvidia/server:24.05", LOGIN, "has no tag 24.05; it has there"),
        ("no such repository", "nvidia/nothing:1", LOGIN, "/nvidia/nothing:1 does not exist"),
    ],
)
def test_refusals(
    host: str,
    tmp_path: Path,
    summary: str,
    image: str,
    login: tuple[str, str] | None,
    said: str,
) -> None:
    del summary
    push(host, tmp_path, "nvidia/other", "there", [tiny.layer("x")], "gzip")
    image = image.replace("server:24.05", "other:24.05")
    client = RegistryClient(find=lambda _: Credentials(*login) if login else None)
    with pytest.raises(SourceError) as caught:
        RegistrySource(ImageName.parse(f"{host}/{image}"), AMD64, client)
    client.close()
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
