"""What refers to a manifest: listed by the registry, or by an index under a tag.

Source: dist-spec, "Listing Referrers" and "Referrers Tag Schema".
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from assembler import oci
from assembler.errors import SourceError
from assembler.reference import ImageName
from assembler.registries.client import MAX_MANIFEST, RegistryClient
from assembler.registries.connections import BROKEN, RegistryError
from assembler.registries.endpoint import read_at_most
from assembler.registries.tokens import pull

MAX_PAGES = 100


@dataclass(frozen=True)
class Referrer:
    """The manifest of something that refers to another, and what kind of thing it is."""

    descriptor: oci.Descriptor
    artifact_type: str

    def json(self) -> oci.Json:
        """Return it as an index lists it."""
        return self.descriptor.json() | {"artifactType": self.artifact_type}


def tag(digest: str) -> str:
    """Return the tag under which old registries keep the referrers of `digest`."""
    return digest.replace(":", "-")


def listed(
    client: RegistryClient, name: ImageName, digest: str, artifact_type: str | None = None
) -> list[Referrer]:
    """Return what refers to the manifest `digest` in the repository of `name` (mirrors first).

    artifact_type: of this kind alone. Raises SourceError.
    """
    failure: RegistryError | None = None
    for place in client.places(name):
        try:
            found = _by_api(client, place, digest)
            if found is None:
                index = client.find_manifest_at(place, tag(digest))
                found = _entries(index.raw) if index else []
        except RegistryError as error:
            if not error.passes_on:
                raise
            failure = error
            continue
        failure = None
        chosen = [each for each in found if artifact_type in (None, each.artifact_type)]
        if chosen:
            return chosen
    if failure is not None:
        raise failure
    return []


def with_entry(
    client: RegistryClient, name: ImageName, digest: str, entry: Referrer
) -> bytes | None:
    """Return the index of referrers of `digest` with `entry` added, None if it has it already.

    Raises SourceError.
    """
    there = client.find_manifest_at(name, tag(digest))
    document: Any = oci.parse_object(there.raw, "the index of referrers") if there else {}
    if there and not there.is_index:
        raise SourceError(
            f"{name.registry}/{name.repository}:{tag(digest)} is an image, where the index of "
            "what refers to another one has its place: remove that tag"
        )
    entries = list(document.get("manifests") or ())
    if any(each.get("digest") == entry.descriptor.digest for each in entries):
        return None
    document |= {"schemaVersion": 2, "mediaType": oci.OCI_INDEX}
    return oci.canonical(document | {"manifests": [*entries, entry.json()]})


def _by_api(client: RegistryClient, place: ImageName, digest: str) -> list[Referrer] | None:
    """Return what the registry lists; None where it does not know the question."""
    what = f"what refers to {place.registry}/{place.repository}@{digest[:19]}…"
    endpoint = client.endpoint(place.registry, what)
    path = f"/v2/{place.repository}/referrers/{digest}"
    found: list[Referrer] = []
    for _ in range(MAX_PAGES):
        with endpoint.send(
            "GET", path, pull(place.repository), what,
            headers={"Accept": oci.OCI_INDEX}, accept=(200, 400, 404, 405, 501),
        ) as response:  # fmt: skip
            said = response.headers.get("Content-Type", "").partition(";")[0].strip()
            # Some answer any question with a page.
            if response.status_code != 200 or said != oci.OCI_INDEX:
                return None
            try:
                raw = read_at_most(response, MAX_MANIFEST)
            except BROKEN as error:
                raise RegistryError(f"{what}: {type(error).__name__}", temporary=True) from None
        found += _entries(raw)
        following = re.search(r'<([^>]+)>\s*;\s*rel="?next"?', response.headers.get("Link", ""))
        if not following:
            break
        path = following[1]
    return found


def _entries(raw: bytes) -> list[Referrer]:
    document = oci.parse_object(raw, "the list of referrers")
    return [
        Referrer(oci.Descriptor.parse(entry, "a referrer"), str(entry.get("artifactType") or ""))
        for entry in document.get("manifests") or ()
    ]
