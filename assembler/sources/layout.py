"""The image of an OCI layout, folder or archive, by its index.json (image-spec image-layout.md)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from assembler import oci
from assembler.errors import SourceError, VerificationError
from assembler.oci import Platform
from assembler.sources.found import (
    Found,
    StoredLayer,
    check_platform,
    familiar,
    listed,
    several,
)
from assembler.sources.members import Members

REF_NAME = "org.opencontainers.image.ref.name"
CONTAINERD_NAME = "io.containerd.image.name"


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
        raise SourceError(f"{where}: no such image inside; it has {listed(names)}")
    if len({_digest(entry) for entry in chosen}) == 1:
        descriptor = oci.Descriptor.parse(chosen[0], f"an entry of the index of {where}")
    elif len({_shown(e) for e in chosen if _names(e)}) < 2 and all(map(_has_platform, chosen)):
        # One image for several platforms, not wrapped in an index of its own.
        descriptor = oci.choose_platform(oci.canonical({"manifests": chosen}), platform, where)
    else:
        raise several(where, names)
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
    return names | {familiar(str(full))} if full else names


def _shown(entry: Mapping[str, Any]) -> str:
    annotations = entry.get("annotations") or {}
    full = annotations.get(CONTAINERD_NAME)
    return (familiar(str(full)) if full else annotations.get(REF_NAME)) or _digest(entry)
