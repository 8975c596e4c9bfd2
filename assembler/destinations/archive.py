"""`--output FILE.tar`: one file that docker, podman, skopeo and containerd load.

Layers go in as they are stored. An Engine before 23 takes no zstd layers
(layers-and-registries.md, line 49), so over a base that has some it needs the Engine as
destination, where they are inflated.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from assembler.destinations import Image
from assembler.destinations.contents import archive, tar
from assembler.destinations.files import check_output, made_beside
from assembler.errors import DestinationError


class ArchiveDestination:
    """A new file at `path`. DestinationError where that cannot be, before any work is done."""

    def __init__(self, path: Path) -> None:
        check_output(path)
        if path.is_dir():
            raise DestinationError(f"{path} is a folder: name a file, like {path / 'image.tar'}")
        self._path = path

    def has(self, _image: Image) -> bool:
        """Return False: what is written is written whole."""
        return False

    def deliver(self, image: Image, tags: Sequence[str]) -> None:
        """Write the archive; it appears when it is whole. The same image gives the same bytes."""
        with (
            made_beside(self._path, folder=False) as temporary,
            temporary.open("wb") as file,
        ):
            for piece in tar(archive(image, tags)):
                file.write(piece)
            file.flush()
            os.fsync(file.fileno())
