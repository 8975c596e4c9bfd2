"""The wheels that a recipe puts in: found while the images are still being read, if that goes."""

from __future__ import annotations

import threading
from concurrent.futures import Future
from dataclasses import dataclass, replace
from pathlib import Path

from assembler import releases, wheels
from assembler.errors import SelectionError
from assembler.layers import Layer
from assembler.parallel import Threads
from assembler.recipe import Recipe
from assembler.rootfs import Node
from assembler.stages import Stage

# The oldest that a base of any release has (Ubuntu 20.04), so that what is made for it fits all.
_GLIBC = (2, 31)


@dataclass(frozen=True)
class Unpacked:
    """A wheel for `target`: which it is, and the nodes that it makes."""

    target: wheels.Target
    pin: wheels.Pin
    nodes: list[Node]

    def fits(self, target: wheels.Target) -> bool:
        """Tell whether it may be put in for another target: whatever glibc this was meant for."""
        alike = replace(target, glibc=self.target.glibc) == self.target
        return alike and target.accepts(self.pin.file)


class Wheelhouse:
    """Gets the wheels of a recipe. scratch: a folder for their files. machine: as in Target.

    A context manager: what it began and nobody took is broken off at its end.
    """

    def __init__(self, recipe: Recipe, scratch: Path, machine: str) -> None:
        self._recipe, self._scratch, self._machine = recipe, scratch, machine
        self._cancelled = threading.Event()
        self._pool = Threads(1, "wheels")
        self._ahead: dict[str, Future[Unpacked | None]] = {}
        self._lock = threading.Lock()

    def __enter__(self) -> Wheelhouse:
        return self

    def __exit__(self, *_: object) -> None:
        self._cancelled.set()
        self._pool.shutdown(cancel_futures=True)

    def look(self, layer: Layer) -> None:
        """Get the wheels as soon as one layer of the full image shows which Python there is.

        What the others and the base say is not known then: `take` sees whether they fit.
        """
        target = wheels.linked_target(layer, _GLIBC, self._machine)
        if target is None:
            return

        def one(stage: Stage) -> Unpacked | None:
            try:
                return self._get(stage, target, "ahead")
            except SelectionError:
                return None  # What is wrong, `take` says, if it is still so.

        with self._lock:
            for stage in self._recipe.stages:
                if stage.wheel and stage.wheel not in self._ahead:
                    self._ahead[stage.wheel] = self._pool.submit(one, stage)

    def take(self, stage: Stage, target: wheels.Target) -> Unpacked:
        """Return the wheel of `stage` for `target`. Raises SelectionError."""
        ahead = self._ahead.get(stage.wheel)
        found = ahead.result() if ahead else None
        if found is not None and found.fits(target):
            return found
        return self._get(stage, target, "own")

    def _get(self, stage: Stage, target: wheels.Target, spool: str) -> Unpacked:
        from assembler import unpacking

        recipe = self._recipe
        pin = recipe.pins.get(stage.wheel)
        version = pin.version if pin else recipe.numpy or releases.default_numpy(target.version)
        releases.check_numpy(version, recipe.release)

        def fetch() -> Path:
            return wheels.fetch(
                stage.wheel, version, target, recipe.cache, self._scratch,
                offline=recipe.offline, pin=pin, cancelled=self._cancelled,
            )  # fmt: skip

        files = self._scratch / f"{stage.name}.{spool}"
        wheel = fetch()
        try:
            nodes = unpacking.unpack(wheel, target, stage.name, files)
        except unpacking.DamagedWheel:
            # The cache's may be; another comes in its place.
            recipe.cache.remove(f"wheels/{wheel.name}")
            wheel = fetch()
            nodes = unpacking.unpack(wheel, target, stage.name, files.with_suffix(".again"))
        return Unpacked(target, wheels.Pin.of(version, wheel), nodes)
