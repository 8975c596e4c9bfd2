"""A tag for several platforms: the index that it names, with one image more."""

from __future__ import annotations

import json
from typing import Any

from assembler import oci
from assembler.destinations import Image
from assembler.reference import ImageName
from assembler.registries.client import RegistryClient
from assembler.registries.manifests import RemoteManifest


def with_image(client: RegistryClient, name: ImageName, image: Image) -> bytes:
    """Return the index under the tag of `name` with `image` in it, in its platform's place.

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
    entries = [each for each in entries if not _same(each, image)]
    entries.append(image.entry)
    # By platform, so that the order of the runs leaves no trace.
    entries.sort(
        key=lambda each: (json.dumps(each.get("platform"), sort_keys=True), each["digest"])
    )
    document |= {"schemaVersion": 2, "mediaType": oci.OCI_INDEX}
    return oci.canonical(document | {"manifests": entries})


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
