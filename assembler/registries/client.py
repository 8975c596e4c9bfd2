"""What registries hold, over the distribution API: manifests, blobs, tags; mirrors first.

Source: opencontainers/distribution-spec. Reads only; `uploads` writes, over the same endpoints.
"""

from __future__ import annotations

import difflib
import threading
import time
import zlib
from collections.abc import Callable, Collection, Sequence
from typing import BinaryIO, cast
from urllib.parse import urlsplit

import requests

from assembler import oci
from assembler.errors import OfflineError, SourceError, VerificationError
from assembler.reference import ImageName, is_loopback
from assembler.registries.connections import BROKEN, Connections, RegistryError
from assembler.registries.credentials import Credentials, DockerLogin, ignore
from assembler.registries.download import Ask, BlobReader
from assembler.registries.endpoint import Endpoint, read_at_most
from assembler.registries.manifests import ACCEPT, RemoteManifest, media_type
from assembler.registries.mirrors import Mirror, locations
from assembler.registries.retries import Patience, Policy
from assembler.registries.tokens import pull
from assembler.streams import GZIP, VerifiedReader

MAX_MANIFEST = 4 << 20  # bytes (dist-spec, "Pushing Manifests": larger ones may be refused)
MAX_DOCUMENT = 32 << 20  # bytes of a config; the largest seen are below 1 MiB
_QUIET = 1.5  # seconds without another word of waiting
MAX_TAGS = 1 << 20  # bytes of a tag list that is worth reading for a hint


class RegistryClient:
    """Reads from any registry; all threads of a run share one.

    mirrors: asked before the registry itself, in order. insecure: registries (host:port) that
    may be spoken to over plain HTTP; this machine's always are. offline: every request is an
    error. find: credentials by registry, `docker login`'s by default. warn: takes warnings.
    note: takes word of a wait for a registry that failed. sleep: instead of really waiting
    (seconds), for tests; clock: seconds.
    """

    def __init__(
        self,
        *,
        mirrors: Sequence[Mirror] = (),
        insecure: Collection[str] = (),
        offline: bool = False,
        find: Callable[[str], Credentials | None] | None = None,
        warn: Callable[[str], None] = ignore,
        note: Callable[[str], None] = ignore,
        connections: Connections | None = None,
        policy: Policy | None = None,
        sleep: Callable[[float], object] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._mirrors, self._insecure, self.offline = tuple(mirrors), insecure, offline
        self._find, self.warn = find or DockerLogin(warn).find, warn
        self._connections = connections or Connections()
        self._policy, self._sleep, self._clock = policy or Policy(), sleep, clock
        self._lock = threading.Lock()
        self._endpoints: dict[str, Endpoint] = {}
        self._down: dict[str, str] = {}
        self._bytes_read = 0
        self._note, self._noted = note, -_QUIET

    @property
    def bytes_read(self) -> int:
        """Bytes of bodies received so far, whether of use or not."""
        with self._lock:
            return self._bytes_read

    def patience(self, cancelled: threading.Event | None = None) -> Patience:
        """Return what waits between the retries of one operation; `cancelled` ends a wait."""
        sleep = self._sleep or (cancelled.wait if cancelled else time.sleep)
        return Patience(self._policy, self._clock, sleep, self._waiting)

    def _waiting(self, error: RegistryError, pause: float) -> None:
        """Say what is waited for: once, where several transfers wait for the same registry."""
        with self._lock:
            now = self._clock()
            if pause < 1 or now - self._noted < _QUIET:
                return
            self._noted = now
        self._note(f"{error}: trying again in {pause:.0f} s")

    def endpoint(self, registry: str, what: str) -> Endpoint:
        """Return the one endpoint for `registry`; OfflineError when offline, naming `what`."""
        if self.offline:
            raise OfflineError(
                f"{what} would have to be read from {registry}, but --offline is set"
            )
        with self._lock:
            if registry not in self._endpoints:
                self._endpoints[registry] = Endpoint(
                    registry,
                    self._connections,
                    plain=lambda host: is_loopback(host) or host in self._insecure,
                    find=self._find,
                    clock=self._clock,
                )
            return self._endpoints[registry]

    def places(self, name: ImageName) -> tuple[ImageName, ...]:
        """Return where to look for `name`, best first: its mirrors, then the place itself."""
        return locations(self._mirrors, name)

    def get_manifest(self, name: ImageName, reference: str | None = None) -> RemoteManifest:
        """Return the manifest or index that `name` (or `reference` in its repository) points at.

        Asked for by digest, the bytes are verified. Raises SourceError, VerificationError.
        """
        reference = reference or name.reference
        tried: list[str] = []
        for place in self.places(name)[:-1]:
            if place.registry in self._down:
                tried.append(self._down[place.registry])
                continue
            try:
                return self.manifest_at(place, reference, elsewhere=True)
            except RegistryError as error:
                if not error.passes_on:
                    raise
                tried.append(str(error))
                self._pass_over(place, error)
        try:
            return self.manifest_at(name, reference)
        except RegistryError as error:
            if tried:
                text = f"{error} (mirrors: {'; '.join(tried)})"
                raise RegistryError(text, status=error.status) from None
            raise

    def manifest_at(
        self, place: ImageName, reference: str, *, elsewhere: bool = False
    ) -> RemoteManifest:
        """Return what is at this very place; see get_manifest.

        elsewhere: another place can be asked, so one that is out of order is not waited for.
        """
        separator = "@" if oci.is_digest(reference) else ":"
        what = f"{place.registry}/{place.repository}{separator}{reference}"
        endpoint = self.endpoint(place.registry, what)
        path = f"/v2/{place.repository}/manifests/{reference}"
        patience = self.patience()
        while True:
            try:
                with endpoint.send(
                    "GET", path, pull(place.repository), what, headers={"Accept": ACCEPT}
                ) as response:
                    raw = self._document(response, reference, what)
                    said = response.headers.get("Content-Type", "")
                break
            except RegistryError as error:
                if error.status == 404 and not oci.is_digest(reference):
                    raise self._no_such_tag(place, reference) from None
                if elsewhere and error.status >= 500:
                    raise
                patience.wait(error)
        return RemoteManifest(raw, media_type(raw, said, what))

    def find_manifest_at(self, place: ImageName, reference: str) -> RemoteManifest | None:
        """As `manifest_at`; None where there is none."""
        try:
            return self.manifest_at(place, reference)
        except RegistryError as error:
            if error.status == 404:
                return None
            raise

    def get_blob(
        self, name: ImageName, descriptor: oci.Descriptor, what: str, limit: int = MAX_DOCUMENT
    ) -> bytes:
        """Return a small blob, such as a config, verified. limit: bytes. Raises SourceError."""
        if descriptor.size > limit:
            raise SourceError(f"{what} claims {descriptor.size} bytes, which no such document has")
        with self.open_blob(name, descriptor, what) as blob:
            reader = VerifiedReader(cast(BinaryIO, blob), what, descriptor.digest, descriptor.size)
            return reader.read()

    def open_blob(
        self,
        name: ImageName,
        descriptor: oci.Descriptor,
        what: str,
        *,
        cancelled: threading.Event | None = None,
        on_bytes: Callable[[int], object] | None = None,
        span: tuple[int, int] | None = None,
    ) -> BlobReader:
        """Return a stream of the blob that survives broken connections; it is not yet verified.

        what: names the blob in errors. cancelled: ends every wait when set. on_bytes: told of
        each piece handed out. span: only these bytes (see BlobReader). Nothing is sent before the
        first read.
        """
        path = f"blobs/{descriptor.digest}"
        with self._lock:
            down = dict(self._down)
        places: list[Ask] = [
            self._asking(place, path, what)
            for place in self.places(name)
            if place == name or place.registry not in down
        ]
        # Layers that may not be given away: from where their makers have them, unless the
        # registry was allowed a copy (image-spec, descriptor.md, "urls").
        places += [self._asking_elsewhere(url, what) for url in descriptor.urls]
        return BlobReader(
            places,
            descriptor.size,
            what,
            self._connections,
            lambda: self.patience(cancelled),
            cancelled=cancelled,
            on_bytes=on_bytes,
            on_read=self._count,
            span=span,
        )

    def tags(self, name: ImageName) -> list[str]:
        """Return the tags of a repository: the first page, nothing if it cannot be read."""
        try:
            response = self.endpoint(name.registry, f"the tags of {name}").send(
                "GET", f"/v2/{name.repository}/tags/list", pull(name.repository), "the tags"
            )
            with response:
                document = oci.parse_object(read_at_most(response, MAX_TAGS), "the tag list")
        except (SourceError, *BROKEN):
            return []
        return [tag for tag in document.get("tags") or () if isinstance(tag, str)]

    def interrupt(self) -> None:
        """Break every connection: readers that were cancelled end now, others connect again."""
        self._connections.break_off()

    def close(self) -> None:
        """Close connections."""
        self._connections.close()

    # -- manifests ------------------------------------------------------------------------

    def _document(self, response: requests.Response, reference: str, what: str) -> bytes:
        """Return the body of a manifest; VerificationError unless it is what was asked for."""
        try:
            raw = read_at_most(response, MAX_MANIFEST)
        except BROKEN as error:
            raise self._connections.explain(error, response.url, what) from None
        self._count(len(raw))
        if len(raw) > MAX_MANIFEST:
            raise SourceError(f"the manifest {what} is larger than {MAX_MANIFEST >> 20} MiB")
        length = response.headers.get("Content-Length", "")
        if length.isdecimal() and len(raw) < int(length):
            raise RegistryError(f"{what} broke off at byte {len(raw)} of {length}", temporary=True)
        if raw.startswith(GZIP):
            # A proxy compressed it, though we asked for it as it is.
            try:
                raw = zlib.decompressobj(31).decompress(raw, MAX_MANIFEST)
            except zlib.error as error:
                raise SourceError(f"the manifest {what} cannot be inflated: {error}") from None
        if oci.is_digest(reference) and oci.sha256(raw) != reference:
            raise VerificationError(f"the manifest {what} has digest {oci.sha256(raw)} instead")
        return raw

    def _no_such_tag(self, place: ImageName, tag: str) -> RegistryError:
        known = self.tags(place)
        image = f"{place.registry}/{place.repository}"
        if not known:
            text = f"{image}:{tag} does not exist"
        else:
            nearest = known if len(known) <= 8 else difflib.get_close_matches(tag, known, 4, 0.5)
            hint = f"; {'it has' if nearest is known else 'nearest:'} {', '.join(nearest)}"
            text = f"{image} has no tag {tag}{hint if nearest else ''}"
        return RegistryError(text, status=404)

    # -- places ---------------------------------------------------------------------------

    def _pass_over(self, place: ImageName, error: RegistryError) -> None:
        """Remember a mirror that is down, so that not every blob waits for it; warn once."""
        if error.status != 404:
            with self._lock:
                self._down[place.registry] = str(error)
            self.warn(f"mirror {place.registry} is passed over: {error}")

    def _asking(self, place: ImageName, path: str, what: str) -> Ask:
        def ask(range_: str | None) -> requests.Response:
            return self.endpoint(place.registry, what).send(
                "GET",
                f"/v2/{place.repository}/{path}",
                pull(place.repository),
                what,
                headers={"Range": range_} if range_ else None,
                accept=(200, 206, 416),
            )

        return ask

    def _asking_elsewhere(self, url: str, what: str) -> Ask:
        def ask(range_: str | None) -> requests.Response:
            host = urlsplit(url).netloc
            if not host or (urlsplit(url).scheme != "https" and not is_loopback(host)):
                raise RegistryError(f"{what} lies at an address that is not safe to ask")
            # An endpoint without credentials: whoever wrote the manifest chose this address.
            return Endpoint(
                host,
                self._connections,
                plain=lambda _: not url.startswith("https:"),
                find=ignore,
                clock=self._clock,
            ).send(
                "GET",
                url,
                (),
                what,
                headers={"Range": range_} if range_ else None,
                accept=(200, 206, 416),
            )

        return ask

    def _count(self, count: int) -> None:
        with self._lock:
            self._bytes_read += count
