"""From the command line's words to a destination that is known to be usable."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from assembler.destinations import Image
from assembler.errors import DestinationError, UsageError
from assembler.reference import ImageName

if TYPE_CHECKING:
    from assembler.registries.client import RegistryClient


class Destination(Protocol):
    """Takes a whole image; DestinationError, and then everything is as it was."""

    def has(self, image: Image) -> bool:
        """Tell whether `deliver` needs no layer's bytes, since the image is there."""
        ...

    def deliver(self, image: Image, tags: Sequence[str]) -> None:
        """Deliver `image` under these names."""
        ...


def check_tags(tags: Sequence[str]) -> None:
    """Raise UsageError for a name that cannot be an image's tag."""
    for tag in tags:
        name = ImageName.parse(tag)
        if name.digest:
            raise UsageError(f"--tag {tag}: a tag is a name, not a digest")


class Several:
    """One destination after the other; the first that fails leaves those after it alone."""

    def __init__(self, destinations: Sequence[Destination]) -> None:
        self._destinations = destinations

    def has(self, image: Image) -> bool:
        """Tell whether each has the image."""
        return all(destination.has(image) for destination in self._destinations)

    def deliver(self, image: Image, tags: Sequence[str]) -> None:
        """Deliver to each."""
        for destination in self._destinations:
            destination.deliver(image, tags)


def check_push(pushes: Sequence[str], *, offline: bool) -> tuple[ImageName, ...]:
    """Return the names to push to. Raises UsageError."""
    names = tuple(dict.fromkeys(ImageName.parse(text.removeprefix("docker://")) for text in pushes))
    for name in names:
        if name.digest:
            raise UsageError(f"--push {name}: push to a tag, the digest comes by itself")
        if offline:
            raise UsageError(f"--push {name} needs the network, and --offline forbids it")
    return names


def open_pushing(
    names: Sequence[ImageName],
    client: RegistryClient,
    local: Destination | None,
    *,
    multi_platform: bool = False,
    tagging: bool = True,
) -> Destination:
    """Return what pushes to `names` and then delivers to `local`, which fails less often.

    Raises DestinationError and RegistryError now for what could not be delivered later.
    """
    from assembler.destinations.registry import RegistryDestination

    pushing = RegistryDestination(names, client, multi_platform=multi_platform, tagging=tagging)
    return pushing if local is None else Several([pushing, local])


def open_destination(output: Path | None) -> Destination:
    """Return an archive (a file that ends in .tar), a layout (any other path) or, with no path,
    the Engine. Raises DestinationError now for what could not be delivered later.
    """
    if output is None:
        from assembler.destinations.engine import EngineDestination
        from assembler.engine import EngineError

        try:
            return EngineDestination()
        except EngineError as error:
            raise DestinationError(
                f"{error}; or write the image to a file with --output FILE.tar (or a folder)"
            ) from None
    if output.suffix == ".tar":
        from assembler.destinations.archive import ArchiveDestination

        return ArchiveDestination(output)
    from assembler.destinations.layout import LayoutDestination

    return LayoutDestination(output)
