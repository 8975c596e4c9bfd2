"""Which image of an archive or layout is meant, and where its parts are.

A `docker save` archive says it in manifest.json, whose paths are followed whatever they look
like: `<id>/layer.tar` before Docker 25, `blobs/sha256/<hex>` since (moby #44598); its OCI index
is not used, for early 25.0 wrote one without layers (moby #47065). An OCI layout says it in
index.json (image-spec, image-layout.md).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from assembler import oci
from assembler.errors import SourceError, UsageError, VerificationError
from assembler.oci import Platform
from assembler.reference import ImageName
from assembler.sources.members import Members

REF_NAME = "org.opencontainers.image.ref.name"
CONTAINERD_NAME = "io.containerd.image.name"
_HEX = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class StoredLayer:
    """A layer's path inside the archive, the digest of the blob if known, size and diff_id."""

    path: str
    digest: str | None
    size: int
    diff_id: str


@dataclass(frozen=True)
class Found:
    """The image that was meant. digest: of its manifest, where it has one."""

    digest: str | None
    config: bytes
    layers: tuple[StoredLayer, ...]


def in_docker_archive(members: Members, within: str, platform: Platform) -> Found:
    """Return the image that `within` names: NAME[:TAG], @INDEX, an image id, "" for the only one.

    Raises SourceError, which names the images there are, and VerificationError.
    """
    where = members.where
    if not members.has("manifest.json"):
        if members.has("index.json"):
            raise SourceError(f"{where} is an OCI layout: write oci-archive: for docker-archive:")
        raise SourceError(f"{where} has no manifest.json: it is no `docker save` archive")
    try:
        entries = json.loads(members.document("manifest.json"))
        images = [_Entry(str(e["Config"]), e.get("RepoTags") or [], e["Layers"]) for e in entries]
    except (ValueError, TypeError, KeyError, AttributeError):
        raise SourceError(f"the manifest.json of {where} is not a list of images") from None
    if not images:
        raise SourceError(f"{where} has no image inside")
    chosen = [image for n, image in enumerate(images) if _is_meant(within, n, image)]
    names = [", ".join(e.tags) or f"@{n} (no name)" for n, e in enumerate(images)]
    if not chosen:
        raise SourceError(f"{where}: no such image inside; it has {_listed(names)}")
    fitting = {e.config: e for e in chosen if _fits(members, e.config, platform)}
    if not fitting:
        config = oci.parse_object(_config(members, chosen[0].config), f"the config of {where}")
        check_platform(config, platform, where)
    if len(fitting) > 1:
        raise _several(where, names)
    entry = next(iter(fitting.values()))
    config_bytes = _config(members, entry.config)
    diff_ids = oci.diff_ids(oci.parse_object(config_bytes, f"the config of {where}"), where)
    if len(diff_ids) != len(entry.layers):
        raise SourceError(
            f"{where} is damaged: manifest.json has {len(entry.layers)} layers, "
            f"the config {len(diff_ids)}"
        )
    layers = []
    for path, diff_id in zip(entry.layers, diff_ids, strict=True):
        real = members.real(str(path))
        digest = (
            f"sha256:{real[-64:]}" if re.fullmatch(r"blobs/sha256/[0-9a-f]{64}", real) else None
        )
        layers.append(StoredLayer(real, digest, members.size(real), diff_id))
    return Found(None, config_bytes, tuple(layers))


@dataclass(frozen=True)
class _Entry:
    config: str
    tags: list[str]
    layers: list[str]


def _is_meant(within: str, number: int, image: _Entry) -> bool:
    if not within or within == f"@{number}":
        return True
    if within.startswith("@"):
        return False
    if oci.is_digest(within):
        return PurePosixPath(image.config).stem == within.removeprefix("sha256:")
    return _familiar(within) in map(_familiar, image.tags)


def _familiar(name: str) -> str:
    try:
        return ImageName.parse(name).familiar
    except UsageError:
        return name


def _config(members: Members, path: str) -> bytes:
    data = members.document(path)
    expected = PurePosixPath(path).stem
    if _HEX.fullmatch(expected) and oci.sha256(data) != f"sha256:{expected}":
        raise VerificationError(
            f"the config of {members.where} has digest {oci.sha256(data)}, "
            f"expected sha256:{expected}"
        )
    return data


def _fits(members: Members, path: str, platform: Platform) -> bool:
    what = f"the config of {members.where}"
    return platform.accepts(oci.parse_object(_config(members, path), what))


def check_platform(config: Mapping[str, Any], platform: Platform, where: str) -> None:
    """Raise SourceError unless an image config fits `platform`."""
    if not platform.accepts(config):
        parts = (config.get(key) for key in ("os", "architecture", "variant"))
        there = "/".join(str(part) for part in parts if part) or "no platform"
        raise SourceError(
            f"{where} has no image for {platform}; it has {there} (choose one with --platform)"
        )


def _listed(names: list[str]) -> str:
    return ", ".join(sorted(set(names))) or "none"


def _several(where: str, names: list[str]) -> SourceError:
    return SourceError(
        f"{where} has several images: say which by adding :NAME; it has {_listed(names)}"
    )


def in_layout(members: Members, within: str, platform: Platform) -> Found:
    """Return the image that `within` names: by annotation or digest, "" for the only one.

    Raises SourceError, which names the images or platforms there are, and VerificationError.
    """
    where = members.where
    if not members.has("index.json"):
        if members.has("manifest.json"):
            raise SourceError(
                f"{where} is a `docker save` archive: write docker-archive: for oci-archive:"
            )
        raise SourceError(f"{where} has no index.json: it is no OCI layout")
    index = oci.parse_object(members.document("index.json"), f"the index.json of {where}")
    entries = [entry for entry in index.get("manifests") or () if _is_image(entry)]
    names = [_shown(entry) for entry in entries]
    if within:
        chosen = [entry for entry in entries if within in _names(entry) | {_digest(entry)}]
    else:
        chosen = entries
    if not chosen:
        raise SourceError(f"{where}: no such image inside; it has {_listed(names)}")
    if len({_digest(entry) for entry in chosen}) == 1:
        descriptor = oci.Descriptor.parse(chosen[0], f"an entry of the index of {where}")
    elif len({_shown(e) for e in chosen if _names(e)}) < 2 and all(map(_has_platform, chosen)):
        # One image for several platforms, not wrapped in an index of its own.
        descriptor = oci.choose_platform(oci.canonical({"manifests": chosen}), platform, where)
    else:
        raise _several(where, names)
    return _manifest(members, descriptor, platform)


def _manifest(members: Members, descriptor: oci.Descriptor, platform: Platform) -> Found:
    where = members.where
    raw = blob(members, descriptor, "manifest")
    for _ in range(3):
        document = oci.parse_object(raw, f"the manifest of {where}")
        if descriptor.media_type not in oci.INDEX_TYPES and "manifests" not in document:
            break
        descriptor = oci.choose_platform(raw, platform, where)
        raw = blob(members, descriptor, f"manifest for {platform}")
    manifest = oci.Manifest.parse(raw, where)
    config_bytes = blob(members, manifest.config, "config")
    config = oci.parse_object(config_bytes, f"the config of {where}")
    diff_ids = oci.diff_ids(config, where)
    check_platform(config, platform, where)
    if len(diff_ids) != len(manifest.layers):
        raise SourceError(
            f"{where} is damaged: the manifest has {len(manifest.layers)} layers, "
            f"the config {len(diff_ids)}"
        )
    layers = []
    for layer, diff_id in zip(manifest.layers, diff_ids, strict=True):
        members.size(_path(layer.digest))  # A missing blob is told before anything is read.
        layers.append(StoredLayer(_path(layer.digest), layer.digest, layer.size, diff_id))
    return Found(manifest.digest, config_bytes, tuple(layers))


def blob(members: Members, descriptor: oci.Descriptor, what: str) -> bytes:
    """Return a manifest or config, checked against its descriptor."""
    data = members.document(_path(descriptor.digest))
    if len(data) != descriptor.size or oci.sha256(data) != descriptor.digest:
        raise VerificationError(
            f"the {what} of {members.where} has digest {oci.sha256(data)} ({len(data)} bytes), "
            f"expected {descriptor.digest} ({descriptor.size} bytes)"
        )
    return data


def _path(digest: str) -> str:
    return "blobs/" + digest.replace(":", "/")


def _digest(entry: Mapping[str, Any]) -> str:
    return str(entry.get("digest"))


def _has_platform(entry: Mapping[str, Any]) -> bool:
    return bool(entry.get("platform"))


def _is_image(entry: object) -> bool:
    """Attestations (BuildKit) and artifacts that refer to an image lie beside it."""
    if not isinstance(entry, dict) or entry.get("artifactType"):
        return False
    return "vnd.docker.reference.type" not in (entry.get("annotations") or {})


def _names(entry: Mapping[str, Any]) -> set[str]:
    annotations = entry.get("annotations") or {}
    names = {str(annotations[key]) for key in (REF_NAME, CONTAINERD_NAME) if annotations.get(key)}
    # containerd writes the full name; nobody types docker.io/library/.
    full = annotations.get(CONTAINERD_NAME)
    return names | {_familiar(str(full))} if full else names


def _shown(entry: Mapping[str, Any]) -> str:
    annotations = entry.get("annotations") or {}
    full = annotations.get(CONTAINERD_NAME)
    return (_familiar(str(full)) if full else annotations.get(REF_NAME)) or _digest(entry)
