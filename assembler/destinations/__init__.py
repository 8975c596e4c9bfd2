"""Where the assembled image goes: the local Engine, an archive, an OCI layout, a registry.

A destination gets a finished `Image`, whose layers lie on disk as verified blobs, and
either delivers all of it or leaves everything as it was.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from assembler import oci
from assembler.oci import LayerBlob

EMPTY = b"{}"  # the config of what has none (image-spec, manifest.md)


@dataclass(frozen=True)
class Artifact:
    """A document that travels beside an image and refers to it (image-spec: subject)."""

    artifact_type: str
    media_type: str
    data: bytes

    @property
    def blobs(self) -> dict[str, bytes]:
        """What its manifest points at, by digest."""
        return {oci.sha256(each): each for each in (EMPTY, self.data)}

    def manifest(self, subject: oci.Descriptor) -> bytes:
        """Return its manifest, as something that refers to `subject`."""
        data = oci.Descriptor(self.media_type, oci.sha256(self.data), len(self.data))
        return oci.canonical(
            {
                "schemaVersion": 2,
                "mediaType": oci.OCI_MANIFEST,
                "artifactType": self.artifact_type,
                "config": oci.Descriptor(oci.OCI_EMPTY, oci.sha256(EMPTY), len(EMPTY)).json(),
                "layers": [data.json()],
                "subject": {
                    "mediaType": subject.media_type,
                    "digest": subject.digest,
                    "size": subject.size,
                },
            }
        )


@dataclass(frozen=True)
class Image:
    """A whole image: config bytes (their digest is the image id), layers bottom first, extras."""

    config: bytes
    layers: tuple[LayerBlob, ...]
    platform: oci.Platform
    annotations: Mapping[str, str] = field(default_factory=dict)
    artifacts: tuple[Artifact, ...] = ()

    @property
    def id(self) -> str:
        return oci.sha256(self.config)

    @property
    def manifest(self) -> bytes:
        """The manifest's bytes."""
        return oci.canonical(
            {
                "schemaVersion": 2,
                "mediaType": oci.OCI_MANIFEST,
                "config": oci.Descriptor(oci.OCI_CONFIG, self.id, len(self.config)).json(),
                "layers": [layer.descriptor.json() for layer in self.layers],
                "annotations": dict(self.annotations),
            }
        )

    @property
    def digest(self) -> str:
        return oci.sha256(self.manifest)

    @property
    def entry(self) -> oci.Json:
        """How an index lists it."""
        platform = self.platform
        pairs = (("os", platform.os), ("architecture", platform.architecture),
                 ("variant", platform.variant))  # fmt: skip
        found = oci.Descriptor(oci.OCI_MANIFEST, self.digest, len(self.manifest)).json()
        return found | {"platform": {key: value for key, value in pairs if value}}
