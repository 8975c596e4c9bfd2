"""Descriptors, manifests and image configs, as the OCI image specification has them.

Docker's schema 2 is read as well (same shape, other media types); what we write is OCI.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, cast

from assembler.errors import SourceError

OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar"
OCI_EMPTY = "application/vnd.oci.empty.v1+json"
DOCKER_INDEX = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"

INDEX_TYPES = (OCI_INDEX, DOCKER_INDEX)
MANIFEST_TYPES = (OCI_MANIFEST, DOCKER_MANIFEST)

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")

Json = dict[str, Any]


def sha256(data: bytes) -> str:
    """Return the digest of `data` in the form `sha256:<hex>`."""
    return "sha256:" + hashlib.sha256(data).hexdigest()


def sha256_of(path: Path) -> str:
    """Return the digest of a file's bytes, which may be many."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while data := file.read(1 << 20):
            digest.update(data)
    return "sha256:" + digest.hexdigest()


def is_digest(text: object) -> bool:
    """Tell whether `text` is a sha256 digest (the one algorithm that registries use)."""
    return isinstance(text, str) and _DIGEST.fullmatch(text) is not None


def canonical(document: object) -> bytes:
    """Return `document` as JSON bytes that depend on its content alone."""
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def parse_object(data: bytes, what: str) -> Json:
    """Return the JSON object in `data`; `what` names it in the error."""
    try:
        document = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise SourceError(f"{what} is not JSON: {error}") from None
    if not isinstance(document, dict):
        raise SourceError(f"{what} is not a JSON object")
    return document


@dataclass(frozen=True)
class Descriptor:
    """What points at a blob: media type, digest, size in bytes (image-spec, descriptor.md)."""

    media_type: str
    digest: str
    size: int
    annotations: Mapping[str, str] = field(default_factory=dict)
    urls: tuple[str, ...] = ()

    @classmethod
    def parse(cls, document: object, what: str) -> Descriptor:
        """Return the descriptor in `document`, or raise SourceError that names `what`."""
        if not isinstance(document, dict):
            raise SourceError(f"{what} is not a descriptor")
        digest, size = document.get("digest"), document.get("size")
        if not is_digest(digest):
            raise SourceError(f"{what} has no sha256 digest: {digest!r}")
        if not isinstance(size, int) or size < 0:
            raise SourceError(f"{what} has no valid size: {size!r}")
        annotations, urls = document.get("annotations") or {}, document.get("urls") or []
        if not isinstance(annotations, dict) or not isinstance(urls, list):
            raise SourceError(f"{what} has annotations or urls that are none")
        return cls(
            str(document.get("mediaType", "")),
            str(digest),
            size,
            annotations,
            tuple(urls),
        )

    def json(self) -> Json:
        """Return the descriptor as it stands in a manifest."""
        document: Json = {"mediaType": self.media_type, "digest": self.digest, "size": self.size}
        if self.annotations:
            document["annotations"] = dict(self.annotations)
        if self.urls:
            document["urls"] = list(self.urls)
        return document


@dataclass(frozen=True)
class Platform:
    """An operating system and a processor, as in `linux/arm64/v8`."""

    os: str
    architecture: str
    variant: str = ""

    @classmethod
    def parse(cls, text: str) -> Platform:
        """Return the platform written as os/arch or os/arch/variant; ValueError otherwise."""
        parts = text.split("/")
        if not 2 <= len(parts) <= 3 or not all(re.fullmatch(r"[a-z0-9_.]+", p) for p in parts):
            raise ValueError(f"platform {text!r} is not of the form os/arch, like linux/amd64")
        return cls(*parts)

    def __str__(self) -> str:
        return "/".join(p for p in (self.os, self.architecture, self.variant) if p)

    def accepts(self, document: Mapping[str, Any]) -> bool:
        """Tell whether a `platform` object of an index, or an image config, fits this platform."""
        if (document.get("os"), document.get("architecture")) != (self.os, self.architecture):
            return False
        # arm64 has one variant in practice, and half of the images leave it out.
        return not self.variant or document.get("variant", self.variant) == self.variant


@dataclass(frozen=True)
class Manifest:
    """An image manifest: its raw bytes (what the digest is of) and what they say."""

    raw: bytes
    media_type: str
    config: Descriptor
    layers: tuple[Descriptor, ...]

    @property
    def digest(self) -> str:
        return sha256(self.raw)

    @classmethod
    def parse(cls, raw: bytes, where: str) -> Manifest:
        """Return the manifest in `raw`; `where` names the image in errors."""
        document = parse_object(raw, f"the manifest of {where}")
        if document.get("schemaVersion") != 2 or not isinstance(document.get("layers"), list):
            raise SourceError(
                f"the manifest of {where} is not an image manifest "
                f"(mediaType {document.get('mediaType')!r}, "
                f"schemaVersion {document.get('schemaVersion')!r})"
            )
        return cls(
            raw,
            str(document.get("mediaType") or OCI_MANIFEST),
            Descriptor.parse(document.get("config"), f"the config of {where}"),
            tuple(
                Descriptor.parse(layer, f"layer {number} of {where}")
                for number, layer in enumerate(document["layers"], 1)
            ),
        )


def choose_platform(raw: bytes, platform: Platform, where: str) -> Descriptor:
    """Return the entry of an index that fits `platform`.

    Attestations (`unknown/unknown`, BuildKit) are no images and never chosen.
    Raises SourceError that lists the platforms there are.
    """
    document = parse_object(raw, f"the index of {where}")
    found: list[str] = []
    entries = document.get("manifests") or []
    if not _are(entries, list, dict):
        raise SourceError(f"the index of {where} has manifests that are none")
    for entry in entries:
        described = entry.get("platform") or {}
        if not isinstance(described, dict) or not isinstance(entry.get("annotations") or {}, dict):
            raise SourceError(f"the index of {where} has an entry of another form")
        if "vnd.docker.reference.type" in (entry.get("annotations") or {}):
            continue
        if described.get("os") == "unknown":
            continue
        if platform.accepts(described):
            return Descriptor.parse(entry, f"an entry of the index of {where}")
        parts = (described.get(key) for key in ("os", "architecture", "variant"))
        found.append("/".join(str(part) for part in parts if part))
    raise SourceError(
        f"{where} has no image for {platform}; it has {', '.join(sorted(found)) or 'none'} "
        "(choose one with --platform)"
    )


def _are(values: object, kind: type, each: type) -> bool:
    """Tell whether `values` is a `kind` (list or dict) of values that are `each`."""
    if not isinstance(values, kind):
        return False
    found = values.values() if isinstance(values, dict) else values
    return all(isinstance(value, each) for value in found)  # type: ignore[attr-defined]


def environment(config: Mapping[str, Any]) -> dict[str, str]:
    """Return the environment that an image config sets."""
    pairs = (config.get("config") or {}).get("Env") or []
    return dict(pair.partition("=")[::2] for pair in pairs)


def labels(config: Mapping[str, Any]) -> dict[str, str]:
    """Return the labels that an image config sets."""
    return dict((config.get("config") or {}).get("Labels") or {})


def diff_ids(config: Mapping[str, Any], where: str) -> tuple[str, ...]:
    """Return the diff_ids of an image config, bottom layer first.

    Raises SourceError for a config of another form (image-spec, config.md).
    """
    settings, rootfs = config.get("config") or {}, config.get("rootfs") or {}
    if not isinstance(settings, dict) or not isinstance(rootfs, dict):
        raise SourceError(f"the config of {where} has a config or rootfs that is none")
    for name in ("Env", "Entrypoint", "Cmd"):
        if not _are(settings.get(name) or [], list, str):
            raise SourceError(f"the config of {where} has an {name} that is no list of texts")
    if not _are(settings.get("Labels") or {}, dict, str):
        raise SourceError(f"the config of {where} has Labels that are none")
    found = rootfs.get("diff_ids")
    if not isinstance(found, list) or not all(is_digest(each) for each in found):
        raise SourceError(f"the config of {where} has no valid rootfs.diff_ids")
    return tuple(found)


@dataclass(frozen=True)
class LayerBlob:
    """A finished layer: `descriptor` is of the blob as stored, `diff_id` of its tar.

    Its bytes lie at `path`, or `make` gives them anew each time it is called.
    """

    diff_id: str
    descriptor: Descriptor
    path: Path | None = None
    make: Callable[[], Iterable[bytes]] | None = None

    def open(self) -> BinaryIO:
        """Return the blob as a stream."""
        if self.path is not None:
            return self.path.open("rb")
        assert self.make is not None
        return cast(BinaryIO, _Joined(self.make()))


class _Joined(io.RawIOBase):
    """Pieces of bytes, read as one stream."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._pieces, self._rest = iter(pieces), b""

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        """Return up to `size` bytes, none at the end."""
        if size is None or size < 0:
            return self._rest + b"".join(self._pieces)
        self._rest = self._rest or next(self._pieces, b"")
        data, self._rest = self._rest[:size], self._rest[size:]
        return data
