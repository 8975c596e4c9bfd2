"""From a reference to an open source, whatever its transport; and what all sources share."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from assembler.caching.cache import Cache
from assembler.oci import Platform
from assembler.reference import TRANSPORTS, Reference
from assembler.sources import Source

if TYPE_CHECKING:
    from assembler.registries.client import RegistryClient


def at_path(text: str) -> Reference | None:
    """Return the archive or layout that a bare path names; None for a name or with a transport."""
    if text.partition(":")[0] in TRANSPORTS:
        return None
    path = Path(text)
    named = text.startswith(("/", "./", "../")) or path.suffix == ".tar"
    if not named and not (path / "oci-layout").is_file():
        return None
    return Reference("oci" if path.is_dir() else "docker-archive", path=text)


class Access:
    """How a run reaches images: mirrors, plain-HTTP registries, whether it may use the network.

    bytes_read: of layers and documents, from wherever. on_bytes: told of each piece as it comes,
    by several threads; may be set at any time. cache: remembers manifests and configs. given:
    images that are at hand, by reference.
    """

    def __init__(
        self,
        mirrors: Sequence[str] = (),
        insecure: Sequence[str] = (),
        *,
        offline: bool = False,
        ca: Path | None = None,
        warn: Callable[[str], None] = print,
        note: Callable[[str], None] = print,
    ) -> None:
        """mirrors: texts like FROM=TO; UsageError for one that is not of that form.

        ca: a file of certificates to trust beside the usual ones. note: takes what is good to
        know and nothing to worry about.
        """
        from assembler.registries.mirrors import Mirror

        self.offline = offline
        self.on_bytes: Callable[[int], object] | None = None
        self._mirrors = tuple(Mirror.parse(text) for text in mirrors)
        self._insecure, self._ca = tuple(insecure), ca
        self._warn, self._note = warn, note
        self._client: RegistryClient | None = None
        self.cache = Cache(None, warn)
        self.given: dict[str, Source] = {}
        self._lock = threading.Lock()
        self._local_bytes = 0

    @property
    def client(self) -> RegistryClient:
        """The one registry client of the run."""
        if self._client is None:
            from assembler.registries.client import RegistryClient
            from assembler.registries.connections import Connections

            self._client = RegistryClient(
                mirrors=self._mirrors,
                insecure=self._insecure,
                offline=self.offline,
                connections=Connections(ca=self._ca),
                warn=self._warn,
                note=self._note,
            )
        return self._client

    @property
    def bytes_read(self) -> int:
        """Bytes read so far, all sources together."""
        return self._local_bytes + (self._client.bytes_read if self._client else 0)

    def _count_local(self, count: int) -> None:
        with self._lock:
            self._local_bytes += count
        if self.on_bytes is not None:
            self.on_bytes(count)

    def _count_remote(self, _index: int, count: int) -> None:
        if self.on_bytes is not None:
            self.on_bytes(count)

    @contextmanager
    def open(self, reference: Reference, platform: Platform) -> Iterator[Source]:
        """Yield the source that `reference` names, and close it. Raises SourceError."""
        source = self._open(reference, platform)
        try:
            yield source
        finally:
            source.close()

    def _open(self, reference: Reference, platform: Platform) -> Source:
        if (given := self.given.get(str(reference))) is not None:
            return given
        if reference.transport == "docker":
            from assembler.registries.manifestcache import ManifestCache
            from assembler.sources.registry import RegistrySource

            assert reference.name is not None
            documents = ManifestCache(self.client, self.cache, offline=self.offline)
            return RegistrySource(
                reference.name, platform, self.client, documents, on_bytes=self._count_remote
            )
        if reference.transport == "docker-daemon":
            from assembler.sources.engine import open_engine

            source = open_engine(reference, platform, self._count_local)
            source.remember_in(self.cache)
            return source
        from assembler.sources.archive import open_archive

        return open_archive(reference, platform, self._count_local)

    def interrupt(self) -> None:
        """Break off whatever is being read from registries, in every thread."""
        if self._client is not None:
            self._client.interrupt()

    def close(self) -> None:
        """Give back the connections."""
        if self._client is not None:
            self._client.close()
