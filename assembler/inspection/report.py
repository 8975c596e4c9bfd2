"""An image told as one JSON document: layers, components, sizes, origins, what stayed out."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from assembler import dpkg, oci
from assembler.papers import components
from assembler.papers.record import Record
from assembler.selection import dropped
from assembler.stages import Drop
from assembler.tree import Entry, matcher
from assembler.view import View

BIGGEST = 200
_DEPTH = 6
_HISTORY = 200
_STAGE = re.compile(r"assembler: stage (\S+)")
Report = dict[str, Any]


@dataclass(frozen=True)
class Inspected:
    """An image and what is known of it. where: the place of the record, or ""."""

    reference: str
    view: View
    record: Record | None
    where: str

    # -- files -------------------------------------------------------------------------

    def files(self) -> Iterator[tuple[str, Entry]]:
        """Yield the regular files that take up space: of several names of one file, the first."""
        seen: set[tuple[int, str]] = set()
        for path in sorted(self.view.tree):
            entry = self.view.tree[path]
            if entry.kind == "file" and (entry.layer, entry.member) not in seen:
                seen.add((entry.layer, entry.member))
                yield path, entry

    def known(self, path: str) -> dict[str, Any]:
        """Return what the record says of a path, where it is still as recorded."""
        entry, layers = self.view.tree.get(path), self.stages
        found: dict[str, Any] = (self.record or {}).get("files", {}).get(f"/{path}", {})
        return found if entry and layers.get(entry.layer) == found.get("stage") else {}

    @cached_property
    def stages(self) -> dict[int, str]:
        """Names of the stages by number of layer, from the record or the image's own history."""
        diff_ids = self.view.source.diff_ids
        if self.record:
            names = {each["diff_id"]: each["name"] for each in self.record["layers"]}
            return {n: names[each] for n, each in enumerate(diff_ids) if each in names}
        found = ((n, _STAGE.match(text)) for n, text in enumerate(self.history))
        return {number: match[1] for number, match in found if match}

    @cached_property
    def history(self) -> list[str]:
        """What made each layer, as the image's config has it; empty where it does not say."""
        known = self.view.config.get("history") or []
        texts = (str(e.get("created_by") or "") for e in known if not e.get("empty_layer"))
        made = [" ".join(text.split())[:_HISTORY] for text in texts]
        return made if len(made) == len(self.view.source.diff_ids) else []

    def layer_name(self, number: int) -> str:
        """Return what a layer is called: its stage, `base` beneath those, `above` over them."""
        stages = self.stages
        if number in stages or not stages:
            return stages.get(number, f"layer {number + 1}")
        return "base" if number < min(stages) else "above"

    # -- the whole ------------------------------------------------------------------------

    def report(self) -> Report:
        """Return the report."""
        view, record = self.view, self.record or {}
        files = list(self.files())
        return {
            "image": {
                "reference": self.reference,
                "id": oci.sha256(view.source.config),
                "digest": view.source.digest,
                "platform": f"{view.config.get('os')}/{view.config.get('architecture')}",
                "created": view.config.get("created"),
                "files": len(files),
                "size": sum(entry.size for _, entry in files),
                "compressed": sum(view.source.sizes) or None,
            },
            "record": self.where or None,
            "release": record.get("release") or view.env().get("NVIDIA_TRITON_SERVER_VERSION"),
            "source": record.get("source"),
            "base": record.get("base"),
            "patches": record.get("patches"),
            "layers": self._layers(files),
            "components": components.find(view.tree, _content(view), view.env()),
            "folders": self._folders(files),
            "biggest": self._biggest(files),
            "origins": self._origins(files),
            "dropped": [
                {"reason": reason, **count}
                for reason, count in sorted(record.get("dropped", {}).items())
            ],
        }

    def _layers(self, files: list[tuple[str, Entry]]) -> list[dict[str, Any]]:
        summaries = {
            each["name"]: each["summary"] for each in (self.record or {}).get("layers", ())
        }
        counts, sizes = Counter[int](), Counter[int]()
        for _, entry in files:
            counts[entry.layer] += 1
            sizes[entry.layer] += entry.size
        source = self.view.source
        return [
            {
                "name": (name := self.layer_name(number)),
                "summary": summaries.get(name) or (self.history[number] if self.history else ""),
                "diff_id": diff_id,
                "files": counts[number],
                "size": sizes[number],
                "compressed": source.sizes[number] or None,
            }
            for number, diff_id in enumerate(source.diff_ids)
        ]

    def _folders(self, files: list[tuple[str, Entry]]) -> list[dict[str, Any]]:
        """Bytes by layer and folder, a few folders deep, the biggest first."""
        sizes: dict[tuple[str, str], int] = defaultdict(int)
        for path, entry in files:
            folder = "/".join(path.split("/")[:-1][:_DEPTH])
            sizes[self.layer_name(entry.layer), f"/{folder}"] += entry.size
        order = sorted(sizes.items(), key=lambda each: (-each[1], each[0]))
        return [{"layer": key[0], "path": key[1], "size": size} for key, size in order if size]

    def _biggest(self, files: list[tuple[str, Entry]]) -> list[dict[str, Any]]:
        order = sorted(files, key=lambda each: (-each[1].size, each[0]))[:BIGGEST]
        return [
            {
                "path": f"/{path}",
                "size": entry.size,
                "layer": self.layer_name(entry.layer),
                "reason": self.known(path).get("reason", ""),
            }
            for path, entry in order
        ]

    def _origins(self, files: list[tuple[str, Entry]]) -> list[dict[str, Any]]:
        known = (self.record or {}).get("origins", {})
        counts, sizes = Counter[str](), Counter[str]()
        for path, entry in files:
            name = self.known(path).get("origin") or self.layer_name(entry.layer)
            counts[name] += 1
            sizes[name] += entry.size
        return [
            {"name": name, "files": counts[name], "size": sizes[name], **known.get(name, {})}
            for name in sorted(counts, key=lambda each: -sizes[each])
        ]

    # -- one path -----------------------------------------------------------------------------

    def explain(self, text: str) -> dict[str, Any]:
        """Return what is known of one path: where it came from and why, or why it is not there."""
        path, tree = text.strip("/"), self.view.tree
        real = tree.physical(path)
        if real is None:
            known = (self.record or {}).get("files", {}).get(f"/{path}")
            return {
                "path": f"/{path}",
                "present": False,
                "left_out": self._left_out(path),
                "record": self.where or None,
                "removed": {key: known[key] for key in ("stage", "reason")} if known else None,
            }
        entry, entry_of = tree[real], self.known(real)
        layer = self.layer_name(entry.layer) if entry.layer >= 0 else None
        answer: dict[str, Any] = {
            "path": f"/{real}",
            "present": True,
            "kind": entry.kind,
            "size": entry.size,
            "mode": f"{entry.mode:04o}",
            "layer": layer,
            "diff_id": self.view.origin(real) or None,
            "package": self._package(real),
            "reason": entry_of.get("reason") or self._plain_reason(layer),
            **{key: entry_of[key] for key in ("sha256", "original") if key in entry_of},
        }
        origin = (self.record or {}).get("origins", {}).get(entry_of.get("origin"), {})
        if origin:
            answer["origin"] = {"name": entry_of["origin"], **origin}
            answer["origin"]["path"] = entry_of.get("source_path", f"/{real}")
        if entry.kind == "symlink":
            end = tree.resolve(real)
            answer |= {"target": entry.link, "leads_to": f"/{end}" if end is not None else None}
        return answer

    def _plain_reason(self, layer: str | None) -> str:
        if layer == "base":
            return (
                f"the base has it: {self.record['base']['name']}" if self.record else "of the base"
            )
        if layer == "above":
            return "put there by who built on the slim image"
        return "" if self.record is None else "a folder on the way"

    def _left_out(self, path: str) -> dict[str, Any] | None:
        """Return the rule that keeps a path out, if the record has one."""
        for rule in (self.record or {}).get("drops", ()):
            drop = Drop(tuple(rule["paths"]), rule["reason"], tuple(rule["but"]), rule["keep"])
            if dropped(path, [(matcher(drop.paths), matcher(drop.but), drop)]):
                return {key: rule[key] for key in ("stage", "reason", "keep")}
        return None

    def _package(self, path: str) -> str | None:
        """Return the Debian package that owns a path, by the lists of dpkg."""
        names = {f"/{path}", f"/{path.removeprefix('usr/')}", f"/usr/{path.removeprefix('usr/')}"}
        for name in self.view.tree.children(dpkg.INFO):
            if name.endswith(".list"):
                text = self.view.read_text(f"{dpkg.INFO}/{name}") or ""
                if not names.isdisjoint(text.splitlines()):
                    return name.removesuffix(".list").partition(":")[0]
        return None


def _content(view: View) -> components.Contents:
    def content(path: str) -> Any:
        real = view.tree.resolve(path)
        return view.content(real) if real and view.tree[real].kind == "file" else None

    return content
