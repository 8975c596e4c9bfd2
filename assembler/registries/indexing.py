"""A tag for several platforms: the index that it names."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from assembler import oci
from assembler.destinations import Image
from assembler.reference import ImageName
from assembler.registries.client import RegistryClient
from assembler.registries.manifests import RemoteManifest


def of(images: Sequence[Image]) -> bytes:
    """Return the index of these images alone."""
    return _index({}, [image.entry for image in images])


def with_images(client: RegistryClient, name: ImageName, images: Sequence[Image]) -> bytes:
    """Return the index under the tag of `name` with `images` in it, in their platforms' places.

    A single image that the tag named becomes an entry. Whoever else writes the same tag at the
    same moment is not seen: registries have no lock. Raises SourceError.
    """
    there = client.find_manifest_at(name, name.reference)
    document: dict[str, Any] = {}
    if there is not None and there.is_index:
        document = json.loads(there.raw)
    entries = list(document.get("manifests") or ())
    if there is not None and not there.is_index:
        entries = [_entry(client, name, there)]
    entries = [each for each in entries if not any(_same(each, image) for image in images)]
    return _index(document, entries + [image.entry for image in images])


def _index(document: dict[str, Any], entries: list[Any]) -> bytes:
    # By platform, so that the order of the runs leaves no trace.
    entries.sort(
        key=lambda each: (json.dumps(each.get("platform"), sort_keys=True), each["digest"])
    )
    document = document | {"schemaVersion": 2, "mediaType": oci.OCI_INDEX, "manifests": entries}
    return oci.canonical(document)


def _same(entry: oci.Json, image: Image) -> bool:
    platform = entry.get("platform") or {}
    return bool(entry.get("digest") == image.digest or platform == image.entry["platform"])


def _entry(client: RegistryClient, name: ImageName, manifest: RemoteManifest) -> oci.Json:
    """Return how an index lists an image that was alone under its tag."""
    what = f"the config of {name}"
    parsed = oci.Manifest.parse(manifest.raw, str(name))
    config = oci.parse_object(client.get_blob(name, parsed.config, what), what)
    keys = ("os", "architecture", "variant")
    return {
        "mediaType": manifest.media_type,
        "digest": manifest.digest,
        "size": len(manifest.raw),
        "platform": {key: config[key] for key in keys if config.get(key)},
    }
