"""The files of a delivered image, for every tool that reads one.

The same set serves as OCI layout and as archive: `index.json` for OCI readers, with the name
both as skopeo and BuildKit (`org.opencontainers.image.ref.name`) and as containerd
(`io.containerd.image.name`) look for it, and `manifest.json` for `docker load`, whose classic
store reads nothing else (containers/common #853, orbstack #2059).
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from assembler import oci
from assembler.destinations import Image
from assembler.errors import DestinationError
from assembler.oci import LayerBlob
from assembler.reference import ImageName
from assembler.streams import CHUNK

# What a file holds: bytes, a file on disk, or its size with pieces that come when asked for.
Content = bytes | Path | tuple[int, Iterable[bytes]]


def names_of(tags: Sequence[str]) -> list[ImageName]:
    """Return the names that `tags` are; UsageError for one that is none."""
    return list(dict.fromkeys(ImageName.parse(tag) for tag in tags))


def blob_path(digest: str) -> str:
    """Return where a layout has the blob of this digest."""
    return "blobs/" + digest.replace(":", "/")


def layout(image: Image, tags: Sequence[str], *, list_artifacts: bool) -> dict[str, Content]:
    """Return the files of an OCI layout by path, in the order to write them.

    list_artifacts: whether index.json lists the artifacts. skopeo and podman take a layout of
    more than one entry only with a name, so an archive leaves them out of the list; their
    blobs are in it all the same, found by the `subject` of their manifests.
    """
    blobs: dict[str, Content] = {
        image.digest: image.manifest,
        image.id: image.config,
        **{layer.descriptor.digest: _content(layer) for layer in image.layers},
    }
    target = image.entry
    entries = [target | {"annotations": _annotations(name)} for name in names_of(tags)] or [target]
    for artifact in image.artifacts:
        manifest = artifact.manifest(oci.Descriptor.parse(target, "the image"))
        described = oci.Descriptor(oci.OCI_MANIFEST, oci.sha256(manifest), len(manifest))
        blobs |= artifact.blobs | {described.digest: manifest}
        if list_artifacts:
            entries.append(described.json() | {"artifactType": artifact.artifact_type})
    index = {"schemaVersion": 2, "mediaType": oci.OCI_INDEX, "manifests": entries}
    return {
        "oci-layout": oci.canonical({"imageLayoutVersion": "1.0.0"}),
        "index.json": oci.canonical(index),
        **{blob_path(digest): blobs[digest] for digest in sorted(blobs)},
    }


def _content(layer: LayerBlob) -> Content:
    if layer.path is not None:
        return layer.path
    assert layer.make is not None
    return layer.descriptor.size, layer.make()


def docker_manifest(config: str, tags: Sequence[str], layers: Sequence[str]) -> bytes:
    """Return the manifest.json of a `docker load` archive; config and layers are paths in it."""
    familiar = [name.familiar for name in names_of(tags)]
    return oci.canonical([{"Config": config, "RepoTags": familiar or None, "Layers": list(layers)}])


def archive(image: Image, tags: Sequence[str]) -> dict[str, Content]:
    """Return the files of an archive that docker, podman, skopeo and containerd take."""
    files = layout(image, tags, list_artifacts=False)
    manifest = docker_manifest(
        blob_path(image.id),
        tags,
        [blob_path(layer.descriptor.digest) for layer in image.layers],
    )
    # First what says what the rest is.
    return {"oci-layout": files.pop("oci-layout"), "manifest.json": manifest, **files}


def tar(files: Mapping[str, Content]) -> Iterator[bytes]:
    """Yield a tar of `files`: the same bytes for the same content, on every machine."""
    for path, content in files.items():
        info = tarfile.TarInfo(path)  # Mode 0644, owner 0, time 0.
        info.size = size_of(content)
        yield info.tobuf(tarfile.PAX_FORMAT)
        count = 0
        for piece in pieces(content):
            count += len(piece)
            yield piece
        if count != info.size:
            raise DestinationError(f"{path} has {count} bytes now, it had {info.size}")
        yield bytes(-count % tarfile.BLOCKSIZE)
    yield bytes(2 * tarfile.BLOCKSIZE)


def size_of(content: Content) -> int:
    """Return the bytes of `content`."""
    if isinstance(content, Path):
        return content.stat().st_size
    return len(content) if isinstance(content, bytes) else content[0]


def pieces(content: Content) -> Iterator[bytes]:
    """Yield the bytes of `content`."""
    if isinstance(content, bytes):
        yield content
    elif isinstance(content, Path):
        with content.open("rb") as file:
            while data := file.read(CHUNK):
                yield data
    else:
        yield from content[1]


def _annotations(name: ImageName) -> dict[str, str]:
    return {
        "io.containerd.image.name": str(name),
        "org.opencontainers.image.ref.name": name.tag or "latest",
    }
