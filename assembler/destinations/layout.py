"""`--output DIR`: an OCI image layout (image-spec, image-layout.md), with its referrers.

Artifacts are listed in index.json beside the image, as manifests whose `subject` it is; tools
that take one image of a layout then want its name: `skopeo copy oci:DIR:TAG …`.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from assembler.destinations import Image
from assembler.destinations.contents import layout, pieces
from assembler.destinations.files import check_output, made_beside, sync
from assembler.errors import DestinationError


class LayoutDestination:
    """A new folder at `path`. DestinationError where that cannot be, before any work is done.

    An existing layout is not added to: what is in a result is one run's.
    """

    def __init__(self, path: Path) -> None:
        check_output(path)
        if path.is_mount():
            raise DestinationError(f"{path} is a mount point: name a new folder in it")
        self._path = path

    def has(self, _image: Image) -> bool:
        """Return False: what is written is written whole."""
        return False

    def deliver(self, image: Image, tags: Sequence[str]) -> None:
        """Write the layout; it appears when it is whole."""
        with made_beside(self._path, folder=True) as temporary:
            (temporary / "blobs" / "sha256").mkdir(parents=True)
            for name, content in layout(image, tags, list_artifacts=True).items():
                if isinstance(content, Path) and self._linked(content, temporary / name):
                    continue
                with (temporary / name).open("wb") as file:
                    for piece in pieces(content):
                        file.write(piece)
                    file.flush()
                    os.fsync(file.fileno())
            sync(temporary / "blobs" / "sha256")
            sync(temporary)

    @staticmethod
    def _linked(blob: Path, target: Path) -> bool:
        """Give a blob of ours a second name, where both are on one disk: it is never changed."""
        try:
            os.link(blob, target)
        except OSError:
            return False
        with target.open("rb") as file:
            os.fsync(file.fileno())
        return True
