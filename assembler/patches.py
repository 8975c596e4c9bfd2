"""Unified diffs against files of the extracted tree: applied exactly, or refused.

A patch starts with header lines, `Releases:` (a version specifier) and `Reason:`; the diff
follows, with paths relative to the image's root (a/opt/… and b/opt/…).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.version import Version
from unidiff.errors import UnidiffParseError
from unidiff.patch import PatchedFile, PatchSet

from assembler.errors import SelectionError
from assembler.rootfs import RootFS


@dataclass(frozen=True)
class Patch:
    """name: of the file. releases: which it is for. reason: why it is there. diff: its text."""

    name: str
    releases: SpecifierSet
    reason: str
    diff: str


def load(folder: Path) -> list[Patch]:
    """Return the patches in `folder`, by name. SelectionError for a bad header."""
    patches = []
    for path in sorted(folder.glob("*.patch")):
        text = path.read_text("utf-8")
        head, found, _ = text.partition("\n--- ")
        fields: dict[str, str] = {}
        key = ""
        for line in head.splitlines():
            if line[:1] == " ":
                fields[key] = f"{fields.get(key, '')} {line.strip()}"
            else:
                key, _, value = line.partition(":")
                fields[key] = value.strip()
        try:
            releases = SpecifierSet(fields["Releases"])
        except (KeyError, InvalidSpecifier):
            raise SelectionError(
                f"{path.name}: its first lines must name Releases: (a specifier like <24.11) "
                "and Reason:"
            ) from None
        if not found or not fields.get("Reason"):
            raise SelectionError(f"{path.name}: it has no Reason: or no diff")
        patches.append(Patch(path.name, releases, fields["Reason"], text[len(head) + 1 :]))
    return patches


def apply(rootfs: RootFS, patches: list[Patch], release: str) -> list[str]:
    """Apply what is meant for `release` and return the names of what was applied.

    A patch of a file that no stage took is passed over: it mends what is not there.
    Raises SelectionError for a patch that does not apply exactly.
    """
    applied = []
    for patch in patches:
        if not patch.releases.contains(Version(release), prereleases=True):
            continue
        try:
            changes = PatchSet(patch.diff)
        except UnidiffParseError as error:
            raise SelectionError(f"{patch.name} is not a unified diff: {error}") from None
        for change in changes:
            path = rootfs.tree.landing(change.path)
            node = rootfs.nodes.get(path)
            if node is None:
                continue
            rootfs.fetch([path])
            content = rootfs.content(path)
            assert content is not None
            data = _patched(content.read(), change, patch.name, release)
            rootfs.rewrite(path, data, f"patched by {patch.name}: {patch.reason}")
            applied.append(patch.name)
    return applied


def _patched(data: bytes, change: PatchedFile, name: str, release: str) -> bytes:
    try:
        lines = data.decode("utf-8").splitlines(keepends=True)
    except UnicodeDecodeError:
        raise SelectionError(f"{name}: /{change.path} is not a text file") from None
    out: list[str] = []
    at = 0
    for hunk in change:
        start = hunk.source_start - 1 if hunk.source_length else hunk.source_start
        before = [line.value for line in hunk.source_lines()]
        if lines[start : start + len(before)] != before or start < at:
            raise SelectionError(
                f"{name} does not apply to /{change.path} of {release}: line {start + 1} and on "
                "are not as the patch has them (correct its Releases: range)"
            )
        out += lines[at:start]
        out += [line.value for line in hunk.target_lines()]
        at = start + len(before)
    return "".join(out + lines[at:]).encode()
