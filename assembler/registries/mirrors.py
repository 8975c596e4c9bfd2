"""Registries to read from in place of others: `nvcr.io=registry.local:5000/ngc`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from assembler.errors import UsageError
from assembler.reference import ImageName


def is_place(text: str) -> bool:
    """Tell whether `text` is a registry, with a path or without; UsageError for no name at all."""
    # Read as an image, it must come out with the host that it starts with.
    name = ImageName.parse(text if "/" in text else f"{text}/x", default_tag=None)
    return name.registry == text.partition("/")[0] and not (name.tag or name.digest)


@dataclass(frozen=True)
class Mirror:
    """What lies under `origin` (a registry, or a registry with a path) is also under `target`."""

    origin: str
    target: str

    @classmethod
    def parse(cls, text: str) -> Mirror:
        """Return the mirror written as FROM=TO; UsageError says what is wrong with it."""
        origin, equals, target = (part.rstrip("/") for part in text.partition("="))
        if not equals or not origin or not target:
            raise UsageError(f"mirror {text!r}: write FROM=TO, nvcr.io=registry.local:5000/ngc")
        for part in (origin, target):
            if not is_place(part):
                raise UsageError(
                    f"mirror {text!r}: {part!r} is not a registry (HOST[:PORT][/PATH])"
                )
        return cls(origin, target)

    def apply(self, name: ImageName) -> ImageName | None:
        """Return where the mirror has `name`, or None if it is not under `origin`."""
        full = f"{name.registry}/{name.repository}"
        if full != self.origin and not full.startswith(f"{self.origin}/"):
            return None
        registry, _, repository = (self.target + full[len(self.origin) :]).partition("/")
        return replace(name, registry=registry, repository=repository) if repository else None


def locations(mirrors: Iterable[Mirror], name: ImageName) -> tuple[ImageName, ...]:
    """Return where to look for `name`: its mirrors in the order given, then the place itself."""
    found = [place for mirror in mirrors if (place := mirror.apply(name)) is not None]
    return tuple(dict.fromkeys([*found, name]))
