"""A file system tree merged out of layers, by the rules of the OCI image specification.

Paths are relative to the root, without a leading slash; the root itself is "".
layers-and-registries.md, section 1, and image-spec layer.md are the sources of the rules.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from assembler.errors import SourceError
from assembler.layers import Layer, Member

_MAX_LINKS = 40  # as Linux has it (path_resolution(7))


class Entry(NamedTuple):
    """What lies at a path. A regular file's bytes are member `member` of layer `layer`."""

    kind: str
    mode: int
    uid: int
    gid: int
    size: int
    link: str
    xattrs: tuple[tuple[str, bytes], ...]
    layer: int
    member: str


_IMPLICIT = Entry("dir", 0o755, 0, 0, 0, "", (), -1, "")


class Tree:
    """Paths and what lies there, with look-ups that follow links as the kernel would."""

    def __init__(self) -> None:
        self._entries: dict[str, Entry] = {"": _IMPLICIT}
        self._children: dict[str, set[str]] = {"": set()}

    def __contains__(self, path: str) -> bool:
        return path in self._entries

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, path: str) -> Entry | None:
        """Return what lies at `path` itself (no link followed), or None."""
        return self._entries.get(path)

    def __getitem__(self, path: str) -> Entry:
        return self._entries[path]

    def children(self, path: str) -> list[str]:
        """Return the names in a folder, sorted; none where it is no folder."""
        return sorted(self._children.get(path, ()))

    def below(self, path: str) -> Iterator[str]:
        """Yield all paths below a folder, parents first, sorted in each folder."""
        for name in self.children(path):
            child = f"{path}/{name}" if path else name
            yield child
            yield from self.below(child)

    # -- links -----------------------------------------------------------------

    def resolve(self, path: str) -> str | None:
        """Return the real path of `path` with every link followed, or None where it dangles."""
        return self._walk(path, follow_last=True)

    def physical(self, path: str) -> str | None:
        """Return `path` with its parents' links followed, but not its own last component."""
        return self._walk(path, follow_last=False)

    def _walk(self, path: str, *, follow_last: bool) -> str | None:
        todo = [part for part in path.split("/") if part not in ("", ".")][::-1]
        at, links = "", 0
        while todo:
            part = todo.pop()
            if part == "..":
                at = at.rpartition("/")[0]
                continue
            here = f"{at}/{part}" if at else part
            entry = self._entries.get(here)
            if entry is None:
                return None
            if entry.kind == "symlink" and (todo or follow_last):
                links += 1
                if links > _MAX_LINKS:
                    return None
                if entry.link.startswith("/"):
                    at = ""
                todo += [part for part in entry.link.split("/") if part not in ("", ".")][::-1]
                continue
            if todo and entry.kind != "dir":
                return None
            at = here
        return at

    def chain(self, path: str) -> list[str]:
        """Return every path that is touched on the way to the end of `path`: links, then the file.

        Empty where it dangles. What copies `path` so that it still works copies all of these.
        """
        touched: list[str] = []
        seen: set[str] = set()
        at: str | None = self.physical(path)
        while at is not None and at not in seen:
            seen.add(at)
            touched.append(at)
            entry = self._entries[at]
            if entry.kind != "symlink":
                return touched
            target = entry.link
            if not target.startswith("/"):
                target = f"{at.rpartition('/')[0]}/{target}"
            at = self.physical(target)
        return []

    # -- building ----------------------------------------------------------------

    def remove(self, path: str) -> None:
        """Take away `path` and all below it; nothing happens where there is nothing."""
        if path not in self._entries or not path:
            return
        for child in list(self._children.get(path, ())):
            self.remove(f"{path}/{child}")
        del self._entries[path]
        self._children.pop(path, None)
        parent, _, name = path.rpartition("/")
        self._children[parent].discard(name)

    def put(self, path: str, entry: Entry) -> None:
        """Put `entry` at `path`: folder over folder merges, any other clash replaces."""
        if not path:
            self._entries[""] = entry if entry.kind == "dir" else self._entries[""]
            return
        existing = self._entries.get(path)
        if existing is not None and not (existing.kind == entry.kind == "dir"):
            self.remove(path)
        parent, _, name = path.rpartition("/")
        self._ensure_folder(parent)
        self._entries[path] = entry
        self._children[parent].add(name)
        if entry.kind == "dir":
            self._children.setdefault(path, set())

    def _ensure_folder(self, path: str) -> None:
        entry = self._entries.get(path)
        if entry is None or entry.kind != "dir":
            self.put(path, _IMPLICIT)

    def landing(self, path: str) -> str:
        """Return where an unpacker writes `path`: through links that are folders (line 13)."""
        parent, _, name = path.rpartition("/")
        if not parent or not name:
            return path
        done = self.resolve(parent)
        if done is None or self._entries[done].kind != "dir":
            # A parent is missing, or is a file that this layer replaces by a folder.
            done = self.landing(parent)
        return f"{done}/{name}" if done else name

    def apply(self, layer: Layer, index: int) -> None:
        """Lay `layer` over the tree; `index` becomes the `layer` of what it brings."""
        for folder in layer.opaque:
            where = self.resolve(folder)
            for name in self.children(where) if where is not None else ():
                self.remove(f"{where}/{name}" if where else name)
        for hidden in layer.whiteouts:
            self.remove(self.landing(hidden))
        late: list[Member] = []
        for member in layer.members:
            if member.kind != "hardlink":
                self.put(self.landing(member.name), _entry(member, index))
            elif not self._link(member):
                late.append(member)
        for member in late:
            if not self._link(member):
                raise SourceError(
                    f"layer {index + 1} has a hardlink {member.name!r} to {member.link!r}, "
                    "which is in no layer up to it"
                )

    def _link(self, member: Member) -> bool:
        # The last component is not followed: a hardlink may be of a symlink (umoci TypeLink).
        target = self.physical(member.link)
        if target is None:
            return False
        self.put(self.landing(member.name), self._entries[target])
        return True


def _entry(member: Member, index: int) -> Entry:
    return Entry(
        member.kind,
        member.mode,
        member.uid,
        member.gid,
        member.size,
        member.link,
        member.xattrs,
        index,
        member.name,
    )


# -- patterns ------------------------------------------------------------------------


def pattern(glob: str) -> str:
    """Return the regular expression of a glob: `*` within a name, `**` across folders, `?`, `[…]`,
    `{one,other}`.

    `usr/lib/**` is all below usr/lib; `**/x` is x in any folder, the root included.
    """
    out, at = "", 0
    while at < len(glob):
        if glob.startswith("**/", at):
            out, at = out + "(?:.*/)?", at + 3
        elif glob.startswith("**", at):
            out, at = out + ".*", at + 2
        elif glob[at] == "*":
            out, at = out + "[^/]*", at + 1
        elif glob[at] == "?":
            out, at = out + "[^/]", at + 1
        elif glob[at] == "{" and (end := glob.find("}", at)) > 0:
            choices = "|".join(pattern(choice) for choice in glob[at + 1 : end].split(","))
            out, at = out + f"(?:{choices})", end + 1
        elif glob[at] == "[" and (end := glob.find("]", at + 2)) > 0:
            inside = re.sub(r"[\\\[&~|]", r"\\\g<0>", glob[at + 1 : end])
            inside = "^" + inside[1:] if inside.startswith("!") else inside
            out, at = out + _one_of(inside), end + 1
        else:
            out, at = out + re.escape(glob[at]), at + 1
    return out


def _one_of(inside: str) -> str:
    try:
        re.compile(f"[{inside}]")
    except re.error:  # A range from z to a, say: there is nothing in it.
        return "(?!)"
    return f"[{inside}]"


def matcher(globs: Iterable[str]) -> re.Pattern[str]:
    """Return one regular expression (for fullmatch) that fits what any of `globs` fits."""
    patterns = [f"(?:{pattern(glob)})" for glob in globs]
    return re.compile("|".join(patterns) if patterns else r"(?!)")
