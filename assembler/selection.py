"""From stages to files: which paths of the full image each stage takes, and what stays out."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from assembler import dpkg, releases
from assembler.errors import SelectionError, listing
from assembler.layers import Wanted
from assembler.rootfs import RootFS
from assembler.stages import Drop, Stage
from assembler.tree import matcher

BACKENDS = "opt/tritonserver/backends"


def likely(stages: Iterable[Stage], keep: Iterable[str], *, all_kept: bool = False) -> Wanted:
    """Return what the first read of the full image should keep the content of.

    all_kept: as if all that can be named to --keep were.

    It is a guess that spares a second read and decides nothing: `View.fetch` brings the rest.
    """
    globs = [*dpkg.FILES, releases.OS_RELEASE, "etc/ld.so.conf", "etc/ld.so.conf.d/*"]
    for stage in stages:
        globs += stage.likely
        globs += [path for take in stage.take for path in take.paths]
    wanted = matcher(globs)
    if all_kept:
        keep = [drop.keep for stage in stages for drop in stage.drop if drop.keep]
    drops = drop_rules(stages, keep)
    return lambda path: bool(wanted.fullmatch(path)) and dropped(path, drops) is None


def drop_rules(
    stages: Iterable[Stage], keep: Iterable[str]
) -> list[tuple[re.Pattern[str], re.Pattern[str], Drop]]:
    """Return the drop rules in force: what each keeps out, but for what, and the rule."""
    return [
        (matcher(drop.paths), matcher(drop.but), drop)
        for stage in stages
        for drop in stage.drop
        if not drop.keep or drop.keep not in keep
    ]


def dropped(path: str, rules: list[tuple[re.Pattern[str], re.Pattern[str], Drop]]) -> Drop | None:
    """Return the first rule that keeps `path` out, or None."""
    for paths, but, drop in rules:
        if paths.fullmatch(path) and not but.fullmatch(path):
            return drop
    return None


@dataclass
class Selection:
    """Takes paths and packages into a `RootFS`, and keeps account of both.

    packages: name → stage, of the Debian packages taken whole. dropped: bytes and number of files
    that each drop rule kept out, by its reason.
    """

    rootfs: RootFS
    stages: list[Stage]
    keep: list[str]
    packages: dict[str, str] = field(default_factory=dict)
    dropped: dict[str, tuple[int, int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        full = self.rootfs.full
        if full.tree.resolve("opt/tritonserver") is None:
            raise SelectionError(
                f"{full.source.reference} is no Triton image: it has no /opt/tritonserver "
                "(choose one with --source)"
            )
        self.full = dpkg.Database(full)
        self.base = dpkg.Database(self.rootfs.base)
        self._drops = drop_rules(self.stages, self.keep)
        self._single = matcher(
            glob for stage in self.stages for rule in stage.file_by_file for glob in rule.packages
        )
        self._paths = sorted(full.tree)
        self._seen_drops: set[str] = set()

    # -- what may come in -------------------------------------------------------------

    def take(self, path: str, stage: str, reason: str) -> None:
        """Take one path of the full image, unless a drop rule keeps it out."""
        drop = dropped(path, self._drops)
        if drop is None:
            self.rootfs.take(path, stage, reason)
        elif path not in self._seen_drops:
            self._seen_drops.add(path)
            count, size = self.dropped.get(drop.reason, (0, 0))
            entry = self.rootfs.full.tree.get(path)
            more = entry.size if entry else 0
            self.dropped[drop.reason] = (count + 1, size + more)

    def run(self) -> None:
        """Take all that the stages name. Raises SelectionError that lists all that is missing."""
        problems: list[str] = []
        for stage in self.stages:
            if stage.backend and not self._has_backend(stage.backend):
                problems.append(
                    f"{self.rootfs.full.source.reference} has no backend {stage.backend!r}; "
                    f"it has {', '.join(self._backends()) or 'none'}"
                )
                continue
            problems += self._run_stage(stage)
        problems += self._nothing_kept()
        if problems:
            raise SelectionError(listing("the selection does not fit the image", problems))

    def _nothing_kept(self) -> Iterator[str]:
        """Yield a problem for each name to keep that nothing in the image goes by."""
        for name in self.keep:
            globs = [g for s in self.stages for d in s.drop if d.keep == name for g in d.paths]
            fits = matcher(globs).fullmatch
            if globs and not any(fits(path) for path in self._paths):
                yield f"--keep {name}: {self.rootfs.full.source.reference} has nothing of it"

    def _run_stage(self, stage: Stage) -> list[str]:
        problems: list[str] = []
        for take in stage.take:
            found_any = False
            for glob in take.paths:
                fits = matcher([glob]).fullmatch
                found = [path for path in self._candidates(glob) if fits(path)]
                found_any = found_any or bool(found)
                if not found and not take.optional and not take.otherwise:
                    problems.append(f"{stage.name}.toml: nothing matches {glob!r}")
                for path in found:
                    self.take(path, stage.name, take.reason or f"{stage.name}: {glob}")
            if take.otherwise and not found_any:
                problems += self._named_packages(take.otherwise, stage)
        return problems + self._named_packages(stage.packages, stage)

    def _candidates(self, glob: str) -> Iterable[str]:
        if not set(glob) & set("*?[{"):
            return [glob] if self.rootfs.full.tree.physical(glob) is not None else []
        fixed = re.split(r"[*?\[{]", glob)[0]
        start = bisect_left(self._paths, fixed)
        end = bisect_left(self._paths, fixed + "\U0010ffff")
        return self._paths[start:end]

    def _backends(self) -> list[str]:
        return [n for n in self.rootfs.full.tree.children(BACKENDS) if self._has_backend(n)]

    def _has_backend(self, name: str) -> bool:
        folder = f"{BACKENDS}/{name}"
        tree = self.rootfs.full.tree
        return any(
            tree.resolve(f"{folder}/{file}") is not None
            for file in (f"libtriton_{name}.so", "model.py")
        )

    # -- packages ---------------------------------------------------------------------------

    def _named_packages(self, names: Iterable[str], stage: Stage) -> list[str]:
        problems = []
        for name in names:
            found = self.full.matching(name.rstrip("?"))
            if not found and (provider := self.full.find(name.rstrip("?"))):
                found = [provider]
            if not found and not name.endswith("?") and not self.base.find(name):
                problems.append(f"{stage.name}.toml: no package {name!r} is installed")
            self.take_packages(found, stage.name)
        return problems

    def take_packages(self, roots: Iterable[dpkg.Package], stage: str, why: str = "") -> None:
        """Take packages, with what they need and the base has not, whole but for drop rules."""
        for name, reason in self.full.needs(roots, self.base).items():
            if name in self.packages or self.is_single(name):
                continue
            self.packages[name] = stage
            package = self.full.packages[name]
            reason = why if why and reason == "asked for" else reason
            for path in self.full.files(package):
                real = self.rootfs.full.tree.physical(path)
                if real is not None:
                    self.take(real, stage, f"package {name} {package.version}, {reason}")
            for path in self.full.info_files(package):
                self.take(path, stage, f"metadata of package {name}")

    def is_single(self, package: str) -> bool:
        """Whether only single files of this package are ever taken."""
        return bool(self._single.fullmatch(package))
