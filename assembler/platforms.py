"""`--platform` given several times: an image for each, and an index of them (image-index.md).

Each image is made as it would be alone, with the same digest, into a layout of its own beside the
output; the layouts then become one. The Engine holds no index, so there it is refused.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from assembler import interrupts, oci
from assembler.destinations.contents import Content, blob_path, tar
from assembler.destinations.files import check_output, made_beside
from assembler.errors import UsageError
from assembler.extract import Result, extract
from assembler.options import Options
from assembler.progress import Progress


@dataclass(frozen=True)
class IndexResult:
    """digest: of the index. images: what was made for each platform."""

    digest: str
    images: Mapping[oci.Platform, Result]

    def json(self) -> oci.Json:
        """Return the machine-readable result: as `extract` gives it, by platform."""
        results = list(self.images.values())
        return {
            "index": {"digest": self.digest, "tags": list(results[0].tags)},
            "images": {str(platform): each.json() for platform, each in self.images.items()},
            "bytes_read": results[-1].bytes_read,
            "seconds": round(results[-1].seconds, 3),
        }


def extract_all(options: Options, progress: Progress) -> IndexResult:
    """Make an image for each of `options.platforms` and deliver the index of them.

    Raises AssemblerError; then nothing was delivered.
    """
    output = options.output
    if output is None:
        raise UsageError(
            "several --platform make an image index, which the Engine cannot hold: write it to a "
            "folder or an archive with --output, or make one platform at a time"
        )
    for name, given in (("--record", options.record), ("--lock", options.lock)):
        if given is not None:
            raise UsageError(f"{name} is of one image: make one platform at a time")
    if options.push:
        raise UsageError(
            "--push sends one platform at a time: repeat it with --multi-platform, and each takes "
            "its place in the index that the tag names"
        )
    check_output(output)
    with interrupts.held():
        made = tempfile.TemporaryDirectory(
            dir=output.absolute().parent, prefix=f".{output.name}.platforms-"
        )
    with made as scratch:
        images: dict[oci.Platform, Result] = {}
        for platform in options.platforms:
            progress.say(f"platform {platform}")
            place = Path(scratch) / str(platform).replace("/", "-")
            images[platform] = extract(replace(options, platform=platform, output=place), progress)
            interrupts.resume()
        digest, files = _joined(sorted(Path(scratch).iterdir()))
        _write(output, files)
    return IndexResult(digest, images)


def _joined(layouts: list[Path]) -> tuple[str, dict[str, Content]]:
    """Return the index's digest, and the files of the layout that holds all of it."""
    images: list[oci.Json] = []
    names: list[oci.Json] = []
    artifacts: list[oci.Json] = []
    blobs: dict[str, Content] = {}
    for layout in layouts:
        entries = json.loads((layout / "index.json").read_bytes())["manifests"]
        mine = [entry for entry in entries if "artifactType" not in entry]
        names = [entry.get("annotations", {}) for entry in mine]
        images.append({key: value for key, value in mine[0].items() if key != "annotations"})
        artifacts += [entry for entry in entries if "artifactType" in entry]
        blobs |= {blob_path(f"sha256:{f.name}"): f for f in (layout / "blobs/sha256").iterdir()}
    index = oci.canonical({"schemaVersion": 2, "mediaType": oci.OCI_INDEX, "manifests": images})
    described = oci.Descriptor(oci.OCI_INDEX, oci.sha256(index), len(index))
    top = [described.json() | ({"annotations": name} if name else {}) for name in names]
    document = {"schemaVersion": 2, "mediaType": oci.OCI_INDEX, "manifests": top + artifacts}
    blobs[blob_path(described.digest)] = index
    return described.digest, {
        "oci-layout": oci.canonical({"imageLayoutVersion": "1.0.0"}),
        "index.json": oci.canonical(document),
        **dict(sorted(blobs.items())),
    }


def _write(output: Path, files: dict[str, Content]) -> None:
    """Put the files at `output`: into an archive where it ends in .tar, else into a folder."""
    archive = output.suffix == ".tar"
    with made_beside(output, folder=not archive) as temporary:
        if archive:
            with temporary.open("wb") as out:
                for piece in tar(files):
                    out.write(piece)
                out.flush()
                os.fsync(out.fileno())
            return
        (temporary / "blobs" / "sha256").mkdir(parents=True)
        for name, content in files.items():
            if isinstance(content, Path):
                content.rename(temporary / name)
            elif isinstance(content, bytes):
                (temporary / name).write_bytes(content)
