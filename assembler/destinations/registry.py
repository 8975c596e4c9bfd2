"""`--push REF`: into a registry, with what refers to the image.

Blobs go first, several at a time; then the manifest under its digest, then the artifacts, and
the tag last: whoever pulls by tag sees the old image or all of the new one.
"""

from __future__ import annotations

import io
import threading
from collections.abc import Callable, Sequence
from typing import BinaryIO

from assembler import oci, parallel
from assembler.destinations import Image
from assembler.errors import UsageError
from assembler.reference import ImageName, Reference
from assembler.registries import indexing
from assembler.registries.client import RegistryClient
from assembler.registries.connections import RegistryError
from assembler.registries.uploads import Uploader

WORKERS = 4  # blobs at a time; each keeps one chunk in memory

BASE_NAME = "org.opencontainers.image.base.name"


class RegistryDestination:
    """Tags in registries. RegistryError where we may not push, before any work is done.

    multi_platform: the tags name indexes, in which the image takes its place beside those of other
    platforms. tagging: else `deliver` leaves the tags to a later call of `tag`.
    """

    def __init__(
        self,
        names: Sequence[ImageName],
        client: RegistryClient,
        *,
        multi_platform: bool = False,
        tagging: bool = True,
    ) -> None:
        self._names, self._client = names, client
        self._multi_platform, self._tagging = multi_platform, tagging
        self._cancelled = threading.Event()
        self._uploader = Uploader(client, cancelled=self._cancelled)
        for name in names:
            self._uploader.check(name)

    def has(self, image: Image) -> bool:
        """Tell whether all of its blobs are where they are to be."""
        config = oci.Descriptor(oci.OCI_CONFIG, image.id, len(image.config))
        blobs = [config, *(layer.descriptor for layer in image.layers)]
        pairs = [(name, blob) for name in self._names for blob in blobs]
        return all(
            parallel.each(
                pairs,
                lambda pair: self._uploader.has(*pair),
                workers=WORKERS,
                cancelled=self._cancelled,
                interrupt=self._client.interrupt,
            )
        )

    def deliver(self, image: Image, tags: Sequence[str]) -> None:  # noqa: ARG002
        """Push the image; `tags` are names for elsewhere. Raises RegistryError."""
        for number, name in enumerate(self._names):
            self._blobs(image, name, self._names[:number])
            self._uploader.manifest(name, image.digest, image.manifest, oci.OCI_MANIFEST)
            subject = oci.Descriptor(oci.OCI_MANIFEST, image.digest, len(image.manifest))
            for artifact in image.artifacts:
                try:
                    self._uploader.artifact(name, subject, artifact)
                except RegistryError as error:
                    # The image is worth having without it, where a registry takes images alone.
                    self._client.warn(f"not beside the image: {error}")
        if self._tagging:
            self.tag([image])

    def tag(self, images: Sequence[Image]) -> dict[ImageName, str]:
        """Let the tags name these images, which were pushed; return the digest that each names.

        Raises RegistryError.
        """
        digests: dict[ImageName, str] = {}
        for name in self._names:
            raw, kind = images[0].manifest, oci.OCI_MANIFEST
            if self._multi_platform:
                raw, kind = indexing.with_images(self._client, name, images), oci.OCI_INDEX
            elif len(images) > 1:
                raw, kind = indexing.of(images), oci.OCI_INDEX
            self._uploader.manifest(name, name.reference, raw, kind)
            digests[name] = oci.sha256(raw)
        return digests

    def _blobs(self, image: Image, name: ImageName, pushed: Sequence[ImageName]) -> None:
        config = oci.Descriptor(oci.OCI_CONFIG, image.id, len(image.config))
        opens: dict[str, tuple[oci.Descriptor, Callable[[], BinaryIO]]] = {
            layer.descriptor.digest: (layer.descriptor, layer.open) for layer in image.layers
        }
        opens[image.id] = config, lambda: io.BytesIO(image.config)
        places = [*self._base(image), *pushed]
        neighbours = [each.repository for each in places if each.registry == name.registry]
        numbers = {layer.descriptor.digest: n for n, layer in enumerate(image.layers, 1)}

        def one(digest: str) -> None:
            descriptor, open_ = opens[digest]
            number = numbers.get(digest)
            part = f"layer {number}" if number else "the config"
            what = f"{part} of {name} ({digest[:19]}…)"
            origins = [each for each in neighbours if each != name.repository]
            self._uploader.blob(name, descriptor, open_, what=what, mount_from=origins)

        # The largest first, or the last one is waited for alone.
        order = sorted(opens, key=lambda digest: -opens[digest][0].size)
        parallel.each(
            order,
            one,
            workers=WORKERS,
            cancelled=self._cancelled,
            interrupt=self._client.interrupt,
        )

    def _base(self, image: Image) -> Sequence[ImageName]:
        """Return where the base's layers may be had from, in whatever registry."""
        try:
            reference = Reference.parse(image.annotations.get(BASE_NAME, ""))
        except UsageError:
            return ()
        if reference.name is None or not reference.is_remote:
            return ()
        return self._client.places(reference.name)
