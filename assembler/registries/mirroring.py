"""Images copied from registry to registry: blob by blob, each verified on its way.

What is there is not read again, so a run that was stopped at any point is gone on with by the
next one. Manifests are copied byte for byte, and so keep their digests.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import BinaryIO, cast

from assembler import oci, parallel
from assembler.errors import DestinationError, SourceError, UsageError
from assembler.reference import ImageName, Reference
from assembler.registries import uploads
from assembler.registries.client import RegistryClient
from assembler.registries.credentials import ignore
from assembler.registries.manifests import RemoteManifest
from assembler.registries.mirrors import Mirror, is_place
from assembler.streams import VerifiedReader

WORKERS = 4  # blobs at a time; each keeps one chunk in memory


@dataclass(frozen=True)
class Copied:
    """One image that is now at `target`. digest: of what its name points at there.

    blobs: how many were there, mounted and sent. bytes: sent, of blobs.
    """

    origin: ImageName
    target: ImageName
    digest: str
    blobs: Counter[str]
    bytes: int

    def json(self) -> oci.Json:
        """Return it for machines."""
        return {
            "source": str(self.origin),
            "target": str(self.target),
            "digest": self.digest,
            "blobs": {
                key: self.blobs[key] for key in (uploads.THERE, uploads.MOUNTED, uploads.SENT)
            },
            "bytes_sent": self.bytes,
        }


@dataclass(frozen=True)
class Plan:
    """What one image is made of: manifests in the order to push them, the named one last."""

    origin: ImageName
    target: ImageName
    manifests: tuple[RemoteManifest, ...]
    blobs: dict[str, oci.Descriptor]
    index: RemoteManifest | None

    @property
    def size(self) -> int:
        """Bytes of all blobs."""
        return sum(blob.size for blob in self.blobs.values())


def destination(text: str, reference: Reference) -> tuple[ImageName, ImageName]:
    """Return what `reference` names, and where it goes under `text` (HOST/PATH). UsageError."""
    origin = reference.name
    if origin is None or not reference.is_remote:
        raise UsageError(f"{reference} is not in a registry, and mirror copies from there alone")
    text = text.rstrip("/")
    if not text or not is_place(text):
        raise UsageError(f"--to {text!r} is not a registry (HOST[:PORT][/PATH])")
    target = Mirror(origin.registry, text).apply(origin)
    if target is None or target == origin:
        raise UsageError(f"--to {text}: {origin} is there already, by that very name")
    return origin, target


class Mirroring:
    """Copies images with one client. platform: of an index, this one's alone; None: all of it.

    on_bytes: told of bytes that are sent, or need not be; may be set at any time.
    """

    def __init__(
        self,
        client: RegistryClient,
        platform: oci.Platform | None,
    ) -> None:
        self._client, self._platform = client, platform
        self.on_bytes: Callable[[int], object] = ignore  # type: ignore[assignment]
        self._cancelled = threading.Event()
        self._uploader = uploads.Uploader(client, cancelled=self._cancelled)

    def plan(self, origin: ImageName, target: ImageName) -> Plan:
        """Read the manifests, which are small. Raises SourceError."""
        top = self._client.get_manifest(origin)
        manifests: list[RemoteManifest] = []
        if self._platform is None:
            self._collect(origin, top, manifests)
            return Plan(origin, target, tuple(manifests), self._blobs(origin, manifests), None)
        found = top
        while found.is_index:
            found = self._child(origin, oci.choose_platform(found.raw, self._platform, str(origin)))
        self._check_platform(origin, found, self._platform)
        index = top if top.is_index else None
        return Plan(origin, target, (found,), self._blobs(origin, [found]), index)

    def copy(self, plan: Plan, mount_from: Sequence[ImageName] = ()) -> Copied:
        """Copy all that is not there. Raises SourceError; what arrived stays for the next run."""
        target = plan.target
        found = self._name(plan)
        neighbours = [
            name.repository
            for name in mount_from
            if name.registry == target.registry and name.repository != target.repository
        ]
        sent: list[int] = []

        def one(blob: oci.Descriptor) -> str:
            what = f"{blob.digest[:19]}… of {plan.origin}"
            how = self._uploader.blob(
                target, blob, lambda: self._open(plan.origin, blob), what=what,
                mount_from=neighbours,
            )  # fmt: skip
            if how == uploads.SENT:
                sent.append(blob.size)
            self.on_bytes(blob.size)
            return how

        blobs = sorted(plan.blobs.values(), key=lambda blob: -blob.size)
        how = parallel.each(
            blobs,
            one,
            workers=WORKERS,
            cancelled=self._cancelled,
            interrupt=self._client.interrupt,
        )
        for each in plan.manifests:
            self._uploader.manifest(target, each.digest, each.raw, each.media_type)
        top = plan.manifests[-1]
        if target.tag and found is None:
            self._uploader.manifest(target, target.tag, top.raw, top.media_type)
        return Copied(plan.origin, target, (found or top).digest, Counter(how), sum(sent))

    def _name(self, plan: Plan) -> RemoteManifest | None:
        """Return the index that the target's tag points at already and is to go on doing so.

        Raises DestinationError where the tag has another platform of the same image.
        """
        if plan.index is None or plan.target.tag is None:
            return None
        there = self._client.find_manifest_at(plan.target, plan.target.tag)
        if there is None:
            return None
        if there.digest == plan.index.digest:
            return there
        others = [each["digest"] for each in _entries(plan.index)]
        if there.digest in others and there.digest != plan.manifests[-1].digest:
            raise DestinationError(
                f"{plan.target} has another platform of {plan.origin}, whose name would be lost: "
                "mirror all of them with --all-platforms"
            )
        return None

    def _open(self, origin: ImageName, blob: oci.Descriptor) -> BinaryIO:
        what = f"{blob.digest[:19]}… of {origin}"
        raw = self._client.open_blob(origin, blob, what, cancelled=self._cancelled)
        return cast(BinaryIO, _Verified(cast(BinaryIO, raw), what, blob.digest, blob.size))

    def _collect(
        self, origin: ImageName, manifest: RemoteManifest, found: list[RemoteManifest]
    ) -> None:
        """Add `manifest` to `found`, after all that it points at."""
        if manifest.is_index:
            for entry in _entries(manifest):
                described = oci.Descriptor.parse(entry, f"an entry of the index of {origin}")
                self._collect(origin, self._child(origin, described), found)
        if manifest.digest not in [each.digest for each in found]:
            found.append(manifest)

    def _child(self, origin: ImageName, entry: oci.Descriptor) -> RemoteManifest:
        return self._client.get_manifest(replace(origin, tag=None), entry.digest)

    def _blobs(
        self, origin: ImageName, manifests: Sequence[RemoteManifest]
    ) -> dict[str, oci.Descriptor]:
        found: dict[str, oci.Descriptor] = {}
        for each in manifests:
            if not each.is_index:
                parsed = oci.Manifest.parse(each.raw, str(origin))
                # What may not be given away has addresses of its own (image-spec, layer.md).
                layers = [layer for layer in parsed.layers if not layer.urls]
                found |= {blob.digest: blob for blob in (parsed.config, *layers)}
        return found

    def _check_platform(
        self, origin: ImageName, manifest: RemoteManifest, platform: oci.Platform
    ) -> None:
        what = f"the config of {origin}"
        blob = oci.Manifest.parse(manifest.raw, str(origin)).config
        config = oci.parse_object(self._client.get_blob(origin, blob, what), what)
        if not platform.accepts(config):
            there = "/".join(str(config.get(key, "?")) for key in ("os", "architecture"))
            raise SourceError(
                f"{origin} has no image for {platform}; it is for {there} alone "
                "(choose that with --platform)"
            )


class _Verified(VerifiedReader):
    """Closes what it reads, and its connection with it."""

    def close(self) -> None:
        self._raw.close()
        super().close()


def _entries(index: RemoteManifest) -> list[oci.Json]:
    return list(oci.parse_object(index.raw, "an index").get("manifests") or ())
