"""From two views to the layers of a slim image: selection, closure, root file system, layers."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from assembler import closure, dpkg, elf, patches, users, wheels
from assembler.caching import stagecache
from assembler.caching.cache import Cache
from assembler.errors import SelectionError
from assembler.oci import LayerBlob
from assembler.parallel import Threads
from assembler.recipe import Recipe
from assembler.rootfs import Node, RootFS
from assembler.selection import Selection, drop_rules, dropped
from assembler.stages import Stage
from assembler.view import View
from assembler.wheelhouse import Wheelhouse


@dataclass(frozen=True)
class Made:
    """One stage's outcome: its nodes, and their size in bytes."""

    stage: Stage
    nodes: list[Node]

    @property
    def size(self) -> int:
        return sum(node.content.size for node in self.nodes if node.content)

    @property
    def files(self) -> int:
        """Number of files and links."""
        return sum(node.kind != "dir" for node in self.nodes)


@dataclass(frozen=True)
class Assembly:
    """The root file system by stages, and what a reader may want to know of how it came about."""

    rootfs: RootFS
    stages: list[Made]
    dropped: dict[str, tuple[int, int]]
    packages: dict[str, str]
    patches: list[str]
    numpy: str
    wheels: dict[str, wheels.Pin]


def assemble(
    recipe: Recipe, full: View, base: View, scratch: Path, wheelhouse: Wheelhouse
) -> Assembly:
    """Return the new image's files by stage. Raises SelectionError for what does not fit."""
    rootfs = RootFS(base, full, scratch)
    selection = Selection(rootfs, recipe.stages, recipe.keep)
    selection.run()
    pins = _own_files(rootfs, recipe, wheelhouse)
    numpy = _version(pins)
    applied = patches.apply(rootfs, recipe.patches, recipe.release)
    libraries = next((s.name for s in recipe.stages if s.libraries), recipe.stages[0].name)
    closure.Closure(selection, libraries).run()
    _package_database(rootfs, selection, libraries)
    rootfs.check()
    return Assembly(
        rootfs,
        _by_stage(rootfs, recipe),
        selection.dropped,
        selection.packages,
        applied,
        numpy,
        pins,
    )


def _version(pins: Mapping[str, wheels.Pin]) -> str:
    return pins["numpy"].version if "numpy" in pins else ""


def _own_files(rootfs: RootFS, recipe: Recipe, wheelhouse: Wheelhouse) -> dict[str, wheels.Pin]:
    """Put in wheels, text files and users; return the wheels, by name."""
    pins: dict[str, wheels.Pin] = {}
    for stage in recipe.stages:
        if stage.wheel:
            pins[stage.wheel] = _wheel(rootfs, recipe, stage, wheelhouse)
        for file in stage.file:
            text = file.text.lstrip("\n").replace("${numpy}", _version(pins))
            reason = f"{stage.name}: written here"
            rootfs.make(file.path.lstrip("/"), text.encode(), stage.name, reason, file.mode)
        for user in stage.user:
            users.add(rootfs, user, stage.name)
    return pins


def _wheel(rootfs: RootFS, recipe: Recipe, stage: Stage, wheelhouse: Wheelhouse) -> wheels.Pin:
    """Put in the wheel of `stage` and return which it is."""
    libc = _libc(rootfs)
    target = wheels.find_target(rootfs.tree, wheels.glibc(libc), libc.machine)
    found = wheelhouse.take(stage, target)
    drops = drop_rules(recipe.stages, recipe.keep)
    for node in found.nodes:
        if dropped(node.path, drops) is None:
            rootfs.put(node)
    return found.pin


def _libc(rootfs: RootFS) -> elf.Elf:
    machine = closure.machine(rootfs)
    for folder in closure.system_folders(machine):
        content = rootfs.content(f"{folder}/libc.so.6")
        try:
            found = elf.read(content) if content else None
        except elf.BadElf as error:
            raise SelectionError(
                f"/{folder}/libc.so.6 of {rootfs.base.source.reference} is damaged: {error}"
            ) from None
        if found is not None and found.machine == machine:
            return found
    raise SelectionError(
        f"{rootfs.base.source.reference} has no glibc (libc.so.6): Triton needs a Debian or Ubuntu "
        "base (choose one with --base)"
    )


def _package_database(rootfs: RootFS, selection: Selection, stage: str) -> None:
    """Let dpkg, apt and scanners of the new image know the packages that were taken."""
    if selection.packages:
        added = [selection.full.packages[name] for name in selection.packages]
        text = rootfs.base.read_text(dpkg.STATUS) or ""
        data = dpkg.merged_status(text, added)
        rootfs.replace(dpkg.STATUS, data, stage, "packages that were taken are added", 0o644)


def _by_stage(rootfs: RootFS, recipe: Recipe) -> list[Made]:
    """Return each stage's nodes; a folder that the base lacks goes to the first stage in need."""
    order = {stage.name: number for number, stage in enumerate(recipe.stages)}
    rootfs.fetch(list(rootfs.nodes))
    made: dict[str, list[Node]] = {stage.name: [] for stage in recipe.stages}
    folders: dict[str, Node] = {}
    for node in sorted(rootfs.nodes.values(), key=lambda each: (order[each.stage], each.path)):
        if node.kind == "dir":
            folders[node.path] = _earlier(folders.get(node.path), node, order)
        else:
            made[node.stage].append(node)
        parent = node.path.rpartition("/")[0]
        while parent and parent not in rootfs.base.tree:
            if parent in folders and order[folders[parent].stage] <= order[node.stage]:
                break
            folders[parent] = _earlier(folders.get(parent), _folder(rootfs, parent, node), order)
            parent = parent.rpartition("/")[0]
    for node in folders.values():
        made[node.stage].append(node)
    return [Made(stage, made[stage.name]) for stage in recipe.stages if made[stage.name]]


def _earlier(old: Node | None, new: Node, order: dict[str, int]) -> Node:
    if old is None:
        return new
    first = old if order[old.stage] <= order[new.stage] else new
    # What a stage took by name says more than what a child merely implies.
    known = next((node for node in (old, new) if node.source_path), first)
    return replace(known, stage=first.stage)


def _folder(rootfs: RootFS, path: str, child: Node) -> Node:
    known = rootfs.nodes.get(path)
    entry = rootfs.full.tree.get(path)
    if known is not None:
        return replace(known, stage=child.stage)
    mode, uid, gid = (entry.mode, entry.uid, entry.gid) if entry else (0o755, 0, 0)
    origin = rootfs.full.origin(path) if entry else "assembler"
    return Node(path, "dir", mode, uid, gid, "", child.stage, "folder", origin)


def write_layers(
    assembly: Assembly,
    mtime: int,
    folder: Path,
    done: Callable[[Made, LayerBlob, float], None],
    cache: Cache,
    *,
    compress: bool,
) -> list[LayerBlob]:
    """Return each stage's layer, in layer order: gzip in `folder`, or tars made when read.

    done: told of each layer, and what it took in seconds.
    """
    stages = assembly.stages
    with Threads(2) as pool:

        def one(made: Made) -> LayerBlob:
            begun = time.monotonic()
            blob = stagecache.layer(made.nodes, mtime, folder, cache, compress=compress)
            done(made, blob, time.monotonic() - begun)
            return blob

        # The biggest first, so that none is left to be written alone at the end.
        order = sorted(range(len(stages)), key=lambda number: -stages[number].size)
        blobs = dict(zip(order, pool.map(one, (stages[n] for n in order)), strict=True))
        return [blobs[number] for number in range(len(stages))]
