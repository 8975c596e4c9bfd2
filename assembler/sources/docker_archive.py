"""The image of a `docker save` archive, by its manifest.json.

The paths in there are followed whatever they look like: `<id>/layer.tar` before Docker 25,
`blobs/sha256/<hex>` since (moby #44598). An OCI index beside it is not used, for early 25.0
wrote one without layers (moby #47065).
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import PurePosixPath

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

_HEX = re.compile(r"[0-9a-f]{64}")
_BLOB = re.compile(r"blobs/sha256/[0-9a-f]{64}")


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
        raise SourceError(f"{where}: no such image inside; it has {listed(names)}")
    fitting = {e.config: e for e in chosen if _fits(members, e.config, platform)}
    if not fitting:
        config = oci.parse_object(_config(members, chosen[0].config), f"the config of {where}")
        check_platform(config, platform, where)
    if len(fitting) > 1:
        raise several(where, names)
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
        digest = f"sha256:{real[-64:]}" if _BLOB.fullmatch(real) else None
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
    return familiar(within) in map(familiar, image.tags)


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
