"""One image of a bundle, in the place of registries and cache."""

from __future__ import annotations

import hashlib
import re
import shutil
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from assembler import oci
from assembler.bundle.file import BundleFile
from assembler.bundle.parts import BundleError
from assembler.caching.layercache import from_document
from assembler.layers import Content, Layer, Wanted
from assembler.oci import Descriptor
from assembler.papers import lock
from assembler.reading import Key, Reader
from assembler.sources import Source, T
from assembler.sources.stored import keep
from assembler.streams import CHUNK, LayerStream

_FILES = re.compile(
    r"stages/[A-Za-z0-9_][A-Za-z0-9_.-]*\.toml|patches/[A-Za-z0-9_][A-Za-z0-9_.-]*\.patch|"
    r"Dockerfile\.final|[A-Za-z0-9_][A-Za-z0-9_.+!-]*\.whl"
)


class BundledImage:
    """All of one image's inputs.

    folder: its stages, patches, Dockerfile.final and wheels. lock: of the run that it stands for.
    sources: the full image ("source") and the "base".
    """

    def __init__(self, file: BundleFile, image: Mapping[str, Any], folder: Path) -> None:
        """Write the small files into `folder`. Raises BundleError, VerificationError."""
        self.file, self.folder = file, folder
        wheels = {f"wheels/{name}": member for name, member in image["wheels"].items()}
        for name, member in {**image["files"], **wheels}.items():
            if not _FILES.fullmatch(name.removeprefix("wheels/")) or ".." in name:
                raise BundleError(f"{file.where} has a file with the name {name!r}; refused")
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            with file.open(member) as source, path.open("wb") as target:
                shutil.copyfileobj(source, target, CHUNK)
        (folder / "patches").mkdir(exist_ok=True)
        path = folder / "assembler.lock"
        path.write_bytes(file.read(image["lock"]))
        self.lock = lock.read(path)
        self._layers = [(str(listed), str(places)) for listed, places in image["source"]["layers"]]
        self.sources = {key: BundledSource(file, image[key]) for key in ("source", "base")}

    def reader(self, source: Source, folder: Path, seen: Callable[[Layer], object]) -> Reader:
        """Return what knows the full image's layers. folder: for contents. seen: see Reader."""
        return _BundledReader(self.file, self._layers, source, folder, seen)


class BundledSource:
    """Implements `sources.Source`: all of a base, and of a full image all but its layers' bytes."""

    def __init__(self, file: BundleFile, image: Mapping[str, Any]) -> None:
        self._file = file
        self._blobs: Sequence[tuple[str, int, str, bool]] = image.get("blobs") or ()
        self.reference = str(image["reference"])
        self.digest: str | None = image["digest"]
        self.config = file.read(image["config"])
        config = oci.parse_object(self.config, f"the config of {self.reference}")
        self.diff_ids = oci.diff_ids(config, self.reference)
        self.sizes = tuple(map(int, image["sizes"]))
        self.digests: tuple[str | None, ...] = tuple(image["digests"])
        if image["manifest"] is not None:
            self._check(oci.Manifest.parse(file.read(image["manifest"]), self.reference))
        counts = {len(self.diff_ids), len(self.sizes), len(self.digests)}
        if len(counts | {len(self._blobs or self.sizes)}) != 1:
            raise BundleError(f"{file.where}: {self.reference} has not as many layers as it says")

    def _check(self, manifest: oci.Manifest) -> None:
        layers = tuple(layer.digest for layer in manifest.layers)
        if (manifest.digest, manifest.config.digest, layers) != (
            self.digest, oci.sha256(self.config), self.digests,
        ):  # fmt: skip
            raise BundleError(f"{self._file.where}: {self.reference} does not fit its manifest")

    def read(self, indices: Collection[int], visit: Callable[[LayerStream], T]) -> dict[int, T]:  # noqa: ARG002
        """Raise BundleError: what is needed of the layers is known to the reader."""
        raise BundleError(
            f"{self._file.where} has not all that is needed of {self.reference}: it was made for "
            "another image"
        )

    def copy_layers(self, directory: Path) -> tuple[Descriptor, ...]:
        """As `Source.copy_layers`."""
        found = []
        for number, ((digest, size, member, plain), diff_id) in enumerate(
            zip(self._blobs, self.diff_ids, strict=True)
        ):
            what = f"layer {number + 1} of {self.reference} in {self._file.where}"
            with self._file.open(member, inflate=plain) as raw:
                found.append(
                    keep(raw, what, directory, digest=digest, size=size, diff_id=diff_id)[0]
                )
        return tuple(found)

    def close(self) -> None:
        """Nothing is held open but the bundle itself."""


class _BundledReader(Reader):
    """Knows all layers, and those contents of them that are needed.

    layers: of each, the members with its listing and with where its contents are.
    """

    def __init__(
        self,
        file: BundleFile,
        layers: Sequence[Sequence[str]],
        source: Source,
        folder: Path,
        seen: Callable[[Layer], object],
    ) -> None:
        super().__init__(source, folder, seen=seen)
        self._file, self._layers, self._folder = file, layers, folder
        self._places: dict[int, dict[str, Any]] = {}
        self._packs: dict[str, Path] = {}
        self._found: dict[Key, Content] = {}
        self._taken: Counter[tuple[str, int]] = Counter()

    @property
    def all_read(self) -> bool:
        """Whether all that is likely wanted is here: what is not, is not wanted."""
        return True

    def layers(self, _likely: Wanted) -> dict[int, Layer]:
        """Return every layer, as it was listed when the bundle was made."""
        found = {}
        for number, (listed, _) in enumerate(self._layers):
            try:
                layer = from_document(self._json(listed))
            except (KeyError, TypeError, ValueError, IndexError):
                raise BundleError(f"{self._file.where} has a malformed listing") from None
            for name in (*(m.name for m in layer.members), *layer.whiteouts, *layer.opaque):
                if ".." in name.split("/"):
                    raise BundleError(f"{self._file.where} has a file {name!r}; refused")
            found[number] = layer
            self._seen(layer)
            self.how[number] = f"not read: {self._file.where} has what it lists"
        return found

    def contents(
        self,
        wanted: Mapping[int, Collection[str]],
        *,
        guessed: bool = False,  # noqa: ARG002
    ) -> dict[Key, Content]:
        """Return the bytes of those of these files that the bundle has, verified."""
        found: dict[Key, Content] = {}
        for number, names in wanted.items():
            if number not in self._places:
                self._places[number] = self._json(self._layers[number][1])
            for name in names:
                key = (number, name)
                if key not in self._found and (place := self._places[number].get(name)):
                    self._found[key] = self._content(*place)
                if key in self._found:
                    found[key] = self._found[key]
        return found

    def _content(self, pack: str, offset: int, size: int, sha256: str) -> Content:
        if pack not in self._packs:
            path = self._packs[pack] = self._folder / f"pack-{pack}"
            with self._file.open(pack, inflate=True) as source, path.open("wb") as target:
                shutil.copyfileobj(source, target, CHUNK)
        # Files that are merely equal share their bytes here, but are not one file: a layer has
        # those as hardlinks.
        before = self._taken[pack, offset]
        self._taken[pack, offset] += 1
        path = self._packs[pack]
        if before:
            path = path.with_name(f"{path.name}-{before}")
            if not path.exists():
                path.hardlink_to(self._packs[pack])
        content = Content(path, offset, size, sha256)
        digest, left = hashlib.sha256(), size
        with content.open() as file:
            while left and (data := file.read(min(CHUNK, left))):
                digest.update(data)
                left -= len(data)
        if left or digest.hexdigest() != sha256:
            raise BundleError(f"{self._file.where} says of a file what it is not: {sha256}")
        return content

    def _json(self, member: str) -> Any:
        return oci.parse_object(
            self._file.read(member, inflate=True), f"a member of {self._file.where}"
        )
