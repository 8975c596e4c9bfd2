"""Into a registry: blobs, manifests, and artifacts that refer to an image.

Source: dist-spec, "Push". Blobs first and manifests last, so that nothing is there by halves.
"""

from __future__ import annotations

import contextlib
import io
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace

import requests

from assembler import oci
from assembler.destinations import Artifact
from assembler.reference import ImageName
from assembler.registries import referrers, refusals, sessions
from assembler.registries.client import RegistryClient
from assembler.registries.connections import RegistryError
from assembler.registries.credentials import ignore
from assembler.registries.endpoint import Endpoint
from assembler.registries.retries import Patience
from assembler.registries.sending import Open, Sending, wait
from assembler.registries.sessions import Session
from assembler.registries.tokens import Scopes, pull, push

# How a blob got there.
THERE, MOUNTED, SENT = "there", "mounted", "sent"


class Uploader:
    """Writes into registries; any thread may use it.

    cancelled: ends every wait when set. on_bytes: told of bytes sent, which may be sent twice.
    Every method raises RegistryError.
    """

    def __init__(
        self,
        client: RegistryClient,
        *,
        cancelled: threading.Event | None = None,
        on_bytes: Callable[[int], object] | None = None,
    ) -> None:
        self._client = client
        self._cancelled = cancelled or threading.Event()
        self._on_bytes: Callable[[int], object] = on_bytes or ignore  # type: ignore[assignment]

    def check(self, name: ImageName) -> None:
        """See that the repository of `name` takes something from us, and send it nothing."""
        what = f"an upload to {name.registry}/{name.repository}"
        endpoint = self._client.endpoint(name.registry, what)
        patience = self._client.patience(self._cancelled)
        while True:
            try:
                session = Session.begin(endpoint, name.repository, what)
                break
            except RegistryError as error:
                self._wait(patience, error)
        if session is not None:
            session.abandon()

    def has(self, name: ImageName, descriptor: oci.Descriptor, what: str = "") -> bool:
        """Tell whether the repository of `name` has the blob."""
        what = what or f"blob {descriptor.digest[:19]}…"
        endpoint = self._client.endpoint(name.registry, what)
        patience = self._client.patience(self._cancelled)
        while True:
            try:
                return self._look(endpoint, name, descriptor, what)
            except RegistryError as error:
                self._wait(patience, error)

    def blob(
        self,
        name: ImageName,
        descriptor: oci.Descriptor,
        open_: Open,
        *,
        what: str = "",
        mount_from: Sequence[str] = (),
    ) -> str:
        """Have the blob in the repository of `name`; return how it got there.

        open_: gives its bytes from the first one on, each time that they are needed, and raises
        when they are not the right ones. mount_from: repositories of the same registry that may
        have it. what: names it in errors.
        """
        what = what or f"blob {descriptor.digest[:19]}…"
        endpoint = self._client.endpoint(name.registry, what)
        if self.has(name, descriptor, what):
            return THERE
        session: Session | None = None
        for origin in dict.fromkeys(mount_from):
            # Whatever speaks against mounting, there is another way (ggcr #1404, #1679).
            with contextlib.suppress(RegistryError):
                place = replace(name, repository=origin)
                if self._look(endpoint, place, descriptor, what, pull(origin)):
                    mount = (descriptor.digest, origin)
                    session = Session.begin(endpoint, name.repository, what, mount)
                    if session is None:
                        return MOUNTED
                    break
        sending = Sending(
            endpoint, name.repository, descriptor, open_, what,
            self._client.patience(self._cancelled), self._cancelled, self._on_bytes,
        )  # fmt: skip
        sending.run(session, lambda: self._look(endpoint, name, descriptor, what))
        return SENT

    def manifest(self, name: ImageName, reference: str, raw: bytes, media_type: str) -> None:
        """Have the manifest or index `raw` under a tag, or under its digest."""
        what = f"{name.registry}/{name.repository}{'@' if ':' in reference else ':'}{reference}"
        endpoint = self._client.endpoint(name.registry, what)
        path = f"/v2/{name.repository}/manifests/{reference}"
        patience = self._client.patience(self._cancelled)
        while True:
            try:
                with endpoint.send(
                    "HEAD", path, push(name.repository), what,
                    headers={"Accept": media_type}, accept=range(200, 429),
                ) as response:  # fmt: skip
                    found = response.headers.get("Docker-Content-Digest")
                if response.status_code == 200 and found == oci.sha256(raw):
                    return  # A tag that may not be moved is refused even to whom it belongs.
                self._put(endpoint, name, reference, raw, media_type, what)
                return
            except RegistryError as error:
                self._wait(patience, error)

    def document(
        self, name: ImageName, reference: str, artifact_type: str, blobs: Sequence[oci.Json]
    ) -> None:
        """Have an artifact under a tag. blobs: descriptors of what it is made of, sent before."""
        empty = oci.Descriptor(oci.OCI_EMPTY, oci.sha256(b"{}"), 2)
        self.blob(name, empty, lambda: io.BytesIO(b"{}"))
        manifest = {
            "schemaVersion": 2,
            "mediaType": oci.OCI_MANIFEST,
            "artifactType": artifact_type,
            "config": empty.json(),
            "layers": list(blobs),
        }
        self.manifest(name, reference, oci.canonical(manifest), oci.OCI_MANIFEST)

    def artifact(self, name: ImageName, subject: oci.Descriptor, artifact: Artifact) -> str:
        """Have `artifact` beside the manifest `subject`, as its referrer; return its digest.

        Where the registry does not list referrers by itself, a tag does (dist-spec, "Referrers
        Tag Schema").
        """
        kinds = {oci.sha256(artifact.data): artifact.media_type}
        for digest, data in artifact.blobs.items():
            descriptor = oci.Descriptor(kinds.get(digest, oci.OCI_EMPTY), digest, len(data))
            self.blob(name, descriptor, lambda data=data: io.BytesIO(data))  # type: ignore[misc]
        raw = artifact.manifest(subject)
        what = f"{artifact.artifact_type} of {name.registry}/{name.repository}"
        endpoint = self._client.endpoint(name.registry, what)
        patience = self._client.patience(self._cancelled)
        while True:
            try:
                response = self._put(
                    endpoint, name, oci.sha256(raw), raw, oci.OCI_MANIFEST, what
                )  # fmt: skip
                break
            except RegistryError as error:
                self._wait(patience, error)
        if response.headers.get("OCI-Subject") != subject.digest:
            described = oci.Descriptor(oci.OCI_MANIFEST, oci.sha256(raw), len(raw))
            entry = referrers.Referrer(described, artifact.artifact_type)
            index = referrers.with_entry(self._client, name, subject.digest, entry)
            if index is not None:
                self.manifest(name, referrers.tag(subject.digest), index, oci.OCI_INDEX)
        return oci.sha256(raw)

    def _put(
        self,
        endpoint: Endpoint,
        name: ImageName,
        reference: str,
        raw: bytes,
        media_type: str,
        what: str,
    ) -> requests.Response:
        try:
            with endpoint.send(
                "PUT", f"/v2/{name.repository}/manifests/{reference}", push(name.repository),
                what, headers={"Content-Type": media_type}, data=raw, accept=(200, 201, 202),
            ) as response:  # fmt: skip
                sessions.drain(response)
        except RegistryError as error:
            if ":" in reference or not refusals.tag_is_immutable(error.status, str(error)):
                raise
            raise RegistryError(
                f"{what} exists already and {name.registry} does not let it be moved "
                f"({error.status}, an immutable tag): choose another tag",
                status=error.status,
            ) from None
        stored = response.headers.get("Docker-Content-Digest") or oci.sha256(raw)
        if stored != oci.sha256(raw):
            raise RegistryError(f"{name.registry} changed {what}: it has digest {stored} there")
        return response

    def _look(
        self,
        endpoint: Endpoint,
        name: ImageName,
        descriptor: oci.Descriptor,
        what: str,
        scopes: Scopes = (),
    ) -> bool:
        # A registry that does not let us look is asked to take it, and says then what it minds.
        # distribution answers 500 where its disk was full when it noted a blob, till it comes anew.
        with endpoint.send(
            "HEAD", f"/v2/{name.repository}/blobs/{descriptor.digest}",
            scopes or push(name.repository), what, accept=(200, 400, 403, 404, 405, 500),
        ) as response:  # fmt: skip
            length = response.headers.get("Content-Length")
            return response.status_code == 200 and length in (None, str(descriptor.size))

    def _wait(self, patience: Patience, error: RegistryError) -> None:
        wait(patience, error, self._cancelled)
