"""Config, manifest and index of an image, around layers that are written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.standin.blobs import OCI, Blobs, Layer

CREATED = "2024-05-25T00:00:00.123456789Z"  # with a fraction, as Docker writes it


def write_image(
    layout: Path,
    layers: list[Layer],
    settings: dict[str, Any],
    history: list[tuple[str, bool]],
    tag: str,
    *,
    index: bool,
    architecture: str = "amd64",
) -> str:
    """Write what a layout has besides layers; return the digest that the tag names.

    history: what made it, and whether that made a layer. index: put the manifest into an image
    index beside an attestation, as BuildKit does.
    """
    assert sum(made for _, made in history) == len(layers), "history and layers differ in number"
    blobs = Blobs(layout)
    config = {
        "architecture": architecture,
        "os": "linux",
        "created": CREATED,
        "config": settings,
        "rootfs": {"type": "layers", "diff_ids": [layer.diff_id for layer in layers]},
        "history": [
            {"created": CREATED, "created_by": text, **({} if made else {"empty_layer": True})}
            for text, made in history
        ],
    }
    top = _manifest(blobs, config, [layer.descriptor for layer in layers])
    if index:
        top = _index(blobs, top, architecture)
    top["annotations"] = {"org.opencontainers.image.ref.name": tag}
    (layout / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    (layout / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [top]}))
    return str(top["digest"])


def _manifest(blobs: Blobs, config: dict[str, Any], layers: list[dict[str, Any]]) -> dict[str, Any]:
    kind = f"{OCI}manifest.v1+json"
    return blobs.put(
        {
            "schemaVersion": 2,
            "mediaType": kind,
            "config": blobs.put(config, f"{OCI}config.v1+json"),
            "layers": layers,
        },
        kind,
    )


def _index(blobs: Blobs, image: dict[str, Any], architecture: str) -> dict[str, Any]:
    """Put the attestation first: who takes the first child of an index takes the wrong one."""
    statement = blobs.put(
        {"_type": "https://in-toto.io/Statement/v0.1"}, "application/vnd.in-toto+json"
    )
    unknown = {"architecture": "unknown", "os": "unknown"}
    rootfs = {"type": "layers", "diff_ids": [statement["digest"]]}
    attestation = _manifest(blobs, {**unknown, "config": {}, "rootfs": rootfs}, [statement])
    attestation["platform"] = unknown
    attestation["annotations"] = {
        "vnd.docker.reference.type": "attestation-manifest",
        "vnd.docker.reference.digest": image["digest"],
    }
    image = {**image, "platform": {"architecture": architecture, "os": "linux"}}
    kind = f"{OCI}index.v1+json"
    document = {"schemaVersion": 2, "mediaType": kind, "manifests": [attestation, image]}
    return blobs.put(document, kind)
