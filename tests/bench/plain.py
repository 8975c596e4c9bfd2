"""What a plain Python program does: every layer streamed, verified and listed, one by one.

`python -m tests.bench.plain HOST/REPOSITORY:TAG`; like `crane export`, without writing anything.
"""

from __future__ import annotations

import gzip
import hashlib
import sys
import tarfile
from typing import Any

import requests

ACCEPT = "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json"


class _Hashed:
    def __init__(self, raw: Any) -> None:
        self._raw, self.digest = raw, hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        data: bytes = self._raw.read(size)
        self.digest.update(data)
        return data


def main(name: str) -> None:
    """Read the image; AssertionError where a layer is not what its digest says."""
    host, _, path = name.partition("/")
    repository, _, reference = path.rpartition(":")
    session, url = requests.Session(), f"http://{host}/v2/{repository}"

    def manifest(reference: str) -> Any:
        return session.get(f"{url}/manifests/{reference}", headers={"Accept": ACCEPT}).json()

    found = manifest(reference)
    for entry in found.get("manifests", ()):
        if (entry.get("platform") or {}).get("architecture") == "amd64":
            found = manifest(entry["digest"])
    for layer in found["layers"]:
        with session.get(f"{url}/blobs/{layer['digest']}", stream=True) as answer:
            raw = _Hashed(answer.raw)
            with gzip.open(raw) as plain, tarfile.open(fileobj=plain, mode="r|") as tar:
                for _ in tar:
                    pass
                while plain.read(1 << 20):
                    pass
            assert f"sha256:{raw.digest.hexdigest()}" == layer["digest"]


if __name__ == "__main__":
    main(sys.argv[1])
