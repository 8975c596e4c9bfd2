"""A manifest or an index as a registry gave it, and what it is."""

from __future__ import annotations

from dataclasses import dataclass

from assembler import oci
from assembler.errors import SourceError

# All four, or an old registry converts, and the digest is of something else (dxf).
ACCEPT = ", ".join((*oci.MANIFEST_TYPES, *oci.INDEX_TYPES))
SCHEMA1 = "application/vnd.docker.distribution.manifest.v1+"


@dataclass(frozen=True)
class RemoteManifest:
    """A manifest or index: raw bytes, their digest, and the media type that they go by."""

    raw: bytes
    media_type: str

    @property
    def digest(self) -> str:
        return oci.sha256(self.raw)

    @property
    def is_index(self) -> bool:
        return self.media_type in oci.INDEX_TYPES


def media_type(raw: bytes, said: str, what: str) -> str:
    """Return what a document is, by its body; `said` is the Content-Type it came with.

    nvcr.io has served `text/*` (shifter #238), which is borne; a type that contradicts the
    body, or a body that is two things at once, is not (CVE-2021-41190).
    """
    said = said.partition(";")[0].strip().lower()
    document = oci.parse_object(raw, f"the manifest {what}")
    if said.startswith(SCHEMA1) or document.get("schemaVersion") == 1:
        raise SourceError(
            f"{what} is stored in Docker's old schema 1, which cannot be verified: "
            "push it again with a docker that is newer than 1.10"
        )
    own = str(document.get("mediaType") or "")
    known = (*oci.MANIFEST_TYPES, *oci.INDEX_TYPES)
    index = "manifests" in document
    if index == ("layers" in document):
        raise SourceError(f"{what} is neither a manifest nor an index, but {own or said!r}")
    kind = own or (said if said in known else oci.OCI_INDEX if index else oci.OCI_MANIFEST)
    if (said in known and said != kind) or (kind in oci.INDEX_TYPES) != index:
        raise SourceError(f"{what} says it is {kind!r}, and was sent as {said!r}: not trusted")
    return kind
