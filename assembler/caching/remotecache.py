"""What is known of an image's layers, in a registry: one machine reads the image for a whole team.

An entry is an OCI artifact under a tag that names the source's digest. Its first blob has the
listings and the indexes of packs, the others are packs. Blobs are checked against their digests,
files against theirs when they are used; that the entry tells the truth about names rests with
whoever may push there, as with any cache of builds. Who wants no more than one certain entry
names it by digest.
"""

from __future__ import annotations

import base64
import io
import json
import re
import threading
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any, BinaryIO, cast

from assembler import oci, parallel, zstd
from assembler.caching import layercache
from assembler.caching.cache import Cache
from assembler.errors import SourceError
from assembler.oci import Descriptor
from assembler.reference import ImageName
from assembler.registries.client import RegistryClient
from assembler.registries.uploads import Uploader
from assembler.sources import Source
from assembler.streams import CHUNK, InflatingReader, VerifiedReader

TYPE = "application/vnd.triton-assembler.layers.v1"
_META, _PACK = f"{TYPE}.meta+zstd", f"{TYPE}.pack+zstd"
_FILE = "io.github.triton-assembler.file"
_FORM = 1
WORKERS = 4


class RemoteCache:
    """Entries in the repository `name`. cache: of this machine. scratch: a folder of the run."""

    def __init__(
        self, client: RegistryClient, name: ImageName, cache: Cache, scratch: Path
    ) -> None:
        self._client, self._name, self._cache, self._scratch = client, name, cache, scratch
        self._cancelled = threading.Event()

    def fetch(self, source: Source) -> int:
        """Bring what the entry of `source` knows into the cache; return the number of packs.

        Nothing happens where there is none. Raises SourceError.
        """
        found = self._manifest(source)
        if found is None:
            return 0
        layers = [Descriptor.parse(each, f"an entry of {self._name}") for each in found["layers"]]
        if not layers or layers[0].media_type != _META:
            raise SourceError(f"{self._name} has no entry of ours under {self._tag(source)}")
        self._scratch.mkdir(exist_ok=True)
        folders = {layercache.folder(diff_id) for diff_id in source.diff_ids}
        packs = [
            each
            for each in layers[1:]
            if _is_of(file := str(each.annotations.get(_FILE)), folders)
            and Path(file).suffix == ".pack"
            and not self._cache.find(file)
        ]
        meta = self._client.get_blob(self._name, layers[0], f"the entry in {self._name}")
        try:
            files = json.loads(zstd.decompress(meta))
            if files["form"] != _FORM:
                return 0
            data = {name: base64.b64decode(text) for name, text in files["files"].items()}
        except layercache.MALFORMED as error:
            raise SourceError(f"the entry in {self._name} is damaged: {error}") from None
        self._each(packs, self._pull)
        for name, value in data.items():
            if _is_of(name, folders):
                self._cache.put(name, value)
        return len(packs)

    def store(self, source: Source) -> None:
        """Add what the cache knows of the layers of `source` to the entry. Raises SourceError."""
        before = self._manifest(source) or {"layers": []}
        there = {
            str((each.get("annotations") or {}).get(_FILE)): each for each in before["layers"][1:]
        }
        packs: dict[str, Any] = dict(there)
        files: dict[str, str] = {}
        uploader = Uploader(self._client, cancelled=self._cancelled)
        self._scratch.mkdir(parents=True, exist_ok=True)
        new: list[Path] = []
        for diff_id in dict.fromkeys(source.diff_ids):
            folder = layercache.folder(diff_id)
            for path in self._cache.find(f"{folder}/*"):
                name = f"{folder}/{path.name}"
                if path.suffix != ".pack":
                    if (data := self._cache.get(name)) is not None:
                        files[name] = base64.b64encode(data).decode()
                elif name not in packs:
                    new.append(path)

        def push(path: Path) -> tuple[str, Descriptor]:
            name = "/".join(path.parts[-3:])  # as the cache calls it
            packed = self._compressed(path)
            descriptor = Descriptor(
                _PACK, oci.sha256_of(packed), packed.stat().st_size, {_FILE: name}
            )
            uploader.blob(self._name, descriptor, lambda: packed.open("rb"), what=f"pack {name}")
            return name, descriptor

        packs |= {name: descriptor.json() for name, descriptor in self._each(new, push)}
        text = json.dumps({"form": _FORM, "files": files}, sort_keys=True).encode()
        meta = zstd.compress(text, level=3)
        described = Descriptor(_META, oci.sha256(meta), len(meta))
        if before["layers"][:1] == [described.json()] and not new:
            return
        uploader.blob(self._name, described, lambda: io.BytesIO(meta))
        blobs = [described.json(), *(packs[name] for name in sorted(packs))]
        uploader.document(self._name, self._tag(source), TYPE, blobs)

    def _manifest(self, source: Source) -> dict[str, Any] | None:
        reference = self._name.digest or self._tag(source)
        found = self._client.find_manifest_at(self._name, reference)
        if found is None:
            return None
        document = oci.parse_object(found.raw, f"the entry in {self._name}")
        layers = document.get("layers")
        if not isinstance(layers, list) or not all(isinstance(each, dict) for each in layers):
            raise SourceError(f"{self._name} has no entry of ours under {reference}")
        return document

    def _tag(self, source: Source) -> str:
        # Of the layers rather than the manifest: a mirror may have another one of the same image.
        return f"layers-{oci.sha256(' '.join(source.diff_ids).encode())[7:47]}"

    def _pull(self, descriptor: Descriptor) -> None:
        name = descriptor.annotations[_FILE]
        what = f"pack {Path(name).name} of {self._name}"
        target = self._scratch / Path(name).name
        with (
            self._client.open_blob(self._name, descriptor, what, cancelled=self._cancelled) as blob,
            target.open("wb") as file,
        ):
            raw = VerifiedReader(cast(BinaryIO, blob), what, descriptor.digest, descriptor.size)
            plain = InflatingReader(raw, what)
            while data := plain.read(CHUNK):
                file.write(data)
            while raw.read(CHUNK):
                pass
        self._cache.add(name, target)

    def _compressed(self, pack: Path) -> Path:
        target = self._scratch / f"{pack.name}.zst"
        compressor = zstd.ZstdCompressor(level=3)
        with pack.open("rb") as source, target.open("wb") as file:
            while data := source.read(CHUNK):
                file.write(compressor.compress(data))
            file.write(compressor.flush())
        return target

    def _each(self, items: Iterable[Any], work: Any) -> list[Any]:
        return parallel.each(
            list(items),
            work,
            workers=WORKERS,
            cancelled=self._cancelled,
            interrupt=self._client.interrupt,
        )


def _is_of(file: str, folders: Collection[str]) -> bool:
    """Tell whether a file has a name that the cache gives files in these folders."""
    folder, _, name = file.rpartition("/")
    return folder in folders and bool(re.fullmatch(r"[0-9a-z][0-9a-z.-]{0,99}", name))
