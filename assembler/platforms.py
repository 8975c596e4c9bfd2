"""`--platform` given several times: an image for each, and an index of them (image-index.md).

Each image is made as it would be alone, with the same digest: into a layout of its own beside the
output, and the layouts then become one; into a registry under its digest, and the tag comes when
all are there. The Engine holds no index, so there it is refused.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from assembler import interrupts, oci
from assembler.destinations.contents import Content, blob_path, tar
from assembler.destinations.files import check_output, made_beside
from assembler.destinations.opening import check_push
from assembler.destinations.registry import RegistryDestination
from assembler.errors import UsageError
from assembler.extract import Result, extract
from assembler.options import Options
from assembler.progress import Progress
from assembler.reference import ImageName
from assembler.registries import indexing


@dataclass(frozen=True)
class IndexResult:
    """digest: of the index of these images alone. pushed: what the tags in registries name now.

    images: what was made for each platform.
    """

    digest: str
    pushed: Mapping[ImageName, str]
    images: Mapping[oci.Platform, Result]

    def json(self) -> oci.Json:
        """Return the machine-readable result: as `extract` gives it, by platform."""
        results = list(self.images.values())
        pushed = [{"reference": str(n), "digest": digest} for n, digest in self.pushed.items()]
        return {
            "index": {"digest": self.digest, "tags": list(results[0].tags)},
            **({"pushed": pushed} if pushed else {}),
            "images": {str(platform): each.json() for platform, each in self.images.items()},
            "bytes_read": results[-1].bytes_read,
            "seconds": round(results[-1].seconds, 3),
        }


def extract_all(options: Options, progress: Progress) -> IndexResult:
    """Make an image for each of `options.platforms` and deliver the index of them.

    Raises AssemblerError; then nothing was delivered.
    """
    if options.output is None and (options.tags or not options.push):
        raise UsageError(
            "several --platform make an image index, which the Engine cannot hold: write it to a "
            "folder or an archive with --output, --push it, or make one platform at a time"
        )
    for name, given in (("--record", options.record), ("--lock", options.lock)):
        if given is not None:
            raise UsageError(f"{name} is of one image: make one platform at a time")
    pushes = check_push(options.push, offline=options.access.offline)
    with _beside(options.output) as scratch:
        results: dict[oci.Platform, Result] = {}
        for platform in options.platforms:
            progress.say(f"platform {platform}")
            place = scratch and scratch / str(platform).replace("/", "-")
            results[platform] = extract(replace(options, platform=platform, output=place), progress)
            interrupts.resume()
        images = [result.finished.image for result in results.values()]
        index = indexing.of(images)
        if options.output is not None and scratch is not None:
            _write(options.output, _joined(index, sorted(scratch.iterdir())))
        pushed: dict[ImageName, str] = {}
        if pushes:
            several = options.multi_platform
            destination = RegistryDestination(pushes, options.access.client, multi_platform=several)
            pushed = destination.tag(images)
    return IndexResult(oci.sha256(index), pushed, results)


@contextmanager
def _beside(output: Path | None) -> Iterator[Path | None]:
    """Yield a folder beside the output, if there is to be one."""
    if output is None:
        yield None
        return
    check_output(output)
    with interrupts.held():
        made = tempfile.TemporaryDirectory(
            dir=output.absolute().parent, prefix=f".{output.name}.platforms-"
        )
    with made as scratch:
        yield Path(scratch)


def _joined(index: bytes, layouts: list[Path]) -> dict[str, Content]:
    """Return the files of the layout that holds `index` and all of these."""
    names: list[oci.Json] = []
    artifacts: list[oci.Json] = []
    blobs: dict[str, Content] = {}
    for layout in layouts:
        entries = json.loads((layout / "index.json").read_bytes())["manifests"]
        mine = [entry for entry in entries if "artifactType" not in entry]
        names = [entry.get("annotations", {}) for entry in mine]
        artifacts += [entry for entry in entries if "artifactType" in entry]
        blobs |= {blob_path(f"sha256:{f.name}"): f for f in (layout / "blobs/sha256").iterdir()}
    described = oci.Descriptor(oci.OCI_INDEX, oci.sha256(index), len(index))
    top = [described.json() | ({"annotations": name} if name else {}) for name in names]
    document = {"schemaVersion": 2, "mediaType": oci.OCI_INDEX, "manifests": top + artifacts}
    blobs[blob_path(described.digest)] = index
    return {
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
