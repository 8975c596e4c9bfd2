"""The root file system in the making: the base's tree, and what the stages put over it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from assembler.errors import SelectionError, listing
from assembler.layers import Content
from assembler.tree import Entry, Tree
from assembler.view import View

OURS = -2  # the `layer` of entries that no layer of an image holds


@dataclass(frozen=True)
class Node:
    """One path of the new image.

    kind: file, dir or symlink. stage: which stage took it. reason: why. origin: the diff_id of
    the layer it comes from, or a wheel's name, or "assembler" for what is made here.
    content: the bytes of a file; None until they are fetched. source_path: where the full image
    has it. original: the sha256 that a file had before a patch.
    """

    path: str
    kind: str
    mode: int
    uid: int
    gid: int
    link: str
    stage: str
    reason: str
    origin: str
    xattrs: tuple[tuple[str, bytes], ...] = ()
    content: Content | None = None
    source_path: str = ""
    original: str = ""


class RootFS:
    """Nodes by path, over a base. `tree` shows the two together, as the container will see them."""

    def __init__(self, base: View, full: View, scratch: Path) -> None:
        """scratch: a folder for the bytes of files made here."""
        self.base = base
        self.full = full
        self.nodes: dict[str, Node] = {}
        self.tree = Tree()
        for path in base.tree:
            self.tree.put(path, base.tree[path])
        self._made = scratch / "made"
        self._conflicts: list[str] = []

    # -- putting things in ---------------------------------------------------------------

    def take(self, path: str, stage: str, reason: str) -> None:
        """Take the file, link or folder at `path` of the full image.

        The parents' links are followed in the full image to find it and in the base to place it.
        """
        real = self.full.tree.physical(path)
        if real is None:
            return
        entry = self.full.tree[real]
        if entry.kind == "other":
            raise SelectionError(f"/{real} of {self.full.source.reference} is a device; refused")
        where = self.tree.landing(real)
        if where in self.nodes and self.nodes[where].source_path == real:
            return
        if entry.kind == "dir" and where in self.tree:
            return
        if entry.kind == "dir" and real != where and self.tree.resolve(real) is not None:
            return
        xattrs = tuple(x for x in entry.xattrs if x[0] != "security.selinux")
        node = Node(
            where,
            entry.kind,
            entry.mode,
            entry.uid,
            entry.gid,
            entry.link,
            stage,
            reason,
            self.full.origin(real),
            xattrs,
            source_path=real,
        )
        self._put(node)

    def make(self, path: str, data: bytes, stage: str, reason: str, mode: int = 0o644) -> None:
        """Put in a file of our own; it may replace the base's."""
        self._put(
            Node(self.tree.landing(path), "file", mode, 0, 0, "", stage, reason, "assembler",
                 content=self.store(data))
        )  # fmt: skip

    def make_folder(
        self, path: str, stage: str, reason: str, mode: int = 0o755, uid: int = 0, gid: int = 0
    ) -> None:
        """Put in an empty folder of our own."""
        if path not in self.tree:
            self._put(Node(path, "dir", mode, uid, gid, "", stage, reason, "assembler"))

    def make_link(self, path: str, target: str, stage: str, reason: str) -> None:
        """Put in a symbolic link of our own."""
        where = self.tree.landing(path)
        self._put(Node(where, "symlink", 0o777, 0, 0, target, stage, reason, "assembler"))

    def put(self, node: Node) -> None:
        """Put in a node that was made elsewhere (a wheel's file, say)."""
        self._put(replace(node, path=self.tree.landing(node.path)))

    def replace(self, path: str, data: bytes, stage: str, reason: str, mode: int) -> None:
        """Put other bytes in the place of the base's file at `path`; mode and owner stay.

        mode: for a file that the base has not. A stage's own earlier version gives way.
        """
        where = self.tree.landing(path)
        self.nodes.pop(where, None)
        old = self.base.tree.get(where)
        uid, gid, mode = (old.uid, old.gid, old.mode) if old else (0, 0, mode)
        self._put(
            Node(where, "file", mode, uid, gid, "", stage, reason, "assembler",
                 content=self.store(data))
        )  # fmt: skip

    def rewrite(self, path: str, data: bytes, reason: str) -> None:
        """Give the file at `path`, already taken, other bytes; `reason` joins its own."""
        node = self.nodes[path]
        assert node.content is not None
        self.nodes[path] = replace(
            node,
            content=self.store(data),
            reason=f"{node.reason}; {reason}",
            original=node.original or node.content.sha256,
        )

    def store(self, data: bytes) -> Content:
        """Write bytes to the scratch file and return where they lie."""
        with self._made.open("ab") as file:
            offset = file.tell()
            file.write(data)
        return Content(self._made, offset, len(data), hashlib.sha256(data).hexdigest())

    def _put(self, node: Node) -> None:
        old = self.nodes.get(node.path)
        if old is not None:
            if self._same(old, node) or old.kind == node.kind == "dir":
                return
            self._conflicts.append(
                f"/{node.path} is taken by {old.stage} (from {old.origin[:19]}) and, with other "
                f"content, by {node.stage} (from {node.origin[:19]})"
            )
            return
        self.nodes[node.path] = node
        size = node.content.size if node.content else 0
        self.tree.put(
            node.path,
            Entry(node.kind, node.mode, node.uid, node.gid, size, node.link, (), OURS, node.path),
        )

    @staticmethod
    def _same(old: Node, new: Node) -> bool:
        if old.kind != new.kind or old.link != new.link:
            return False
        if old.content is not None and new.content is not None:
            return old.content.sha256 == new.content.sha256
        return bool(new.source_path) and old.source_path == new.source_path

    def check(self) -> None:
        """Raise SelectionError where two stages took one path with different content."""
        if self._conflicts:
            raise SelectionError(listing("stages are at odds", self._conflicts))

    # -- looking at it --------------------------------------------------------------------

    def fetch(self, paths: Iterable[str]) -> None:
        """Fetch the content of these nodes, in as few reads of the full image as can be."""
        todo = [
            node
            for path in paths
            if (node := self.nodes.get(path)) and node.kind == "file" and node.content is None
        ]
        self.full.fetch(node.source_path for node in todo)
        for node in todo:
            self.nodes[node.path] = replace(node, content=self.full.content(node.source_path))

    def content(self, path: str) -> Content | None:
        """Return the content of the regular file that `path` leads to, ours or the base's."""
        real = self.tree.resolve(path)
        if real is None or self.tree[real].kind != "file":
            return None
        node = self.nodes.get(real)
        if node is None:
            return self.base.content(real)
        if node.content is None:
            self.fetch([real])
        return self.nodes[real].content
