"""Manifests and configs in registries, and a memory of them: no digest ever means another."""

from __future__ import annotations

from assembler import oci
from assembler.caching.cache import Cache
from assembler.reference import ImageName
from assembler.registries.client import RegistryClient
from assembler.registries.manifests import RemoteManifest, media_type


class ManifestCache:
    """Asks `client` for what is not in `cache`; offline, a tag means what it last meant."""

    def __init__(self, client: RegistryClient, cache: Cache, *, offline: bool = False) -> None:
        self._client, self._cache, self._offline = client, cache, offline

    def manifest(self, name: ImageName, digest: str = "") -> RemoteManifest:
        """Return what `name` points at, or the manifest of this digest in its repository.

        A digest that was seen before costs no request, a tag costs one. Raises SourceError.
        """
        digest = digest or name.digest or (self._last_seen(name) if self._offline else "")
        if digest and (raw := self._known(digest)) is not None:
            return RemoteManifest(raw, media_type(raw, "", str(name)))
        found = self._client.get_manifest(name, digest or None)
        self._keep(found.digest, found.raw)
        if not digest:
            self._cache.put(_seen(name), found.digest.encode())
        return found

    def config(self, name: ImageName, descriptor: oci.Descriptor, what: str) -> bytes:
        """Return a small blob, such as a config, verified. Raises SourceError."""
        data = self._known(descriptor.digest)
        if data is None:
            data = self._client.get_blob(name, descriptor, what)
            self._keep(descriptor.digest, data)
        return data

    def _known(self, digest: str) -> bytes | None:
        data = self._cache.get(_path(digest))
        return data if data is not None and oci.sha256(data) == digest else None

    def _keep(self, digest: str, data: bytes) -> None:
        self._cache.put(_path(digest), data)

    def _last_seen(self, name: ImageName) -> str:
        return (self._cache.get(_seen(name)) or b"").decode()


def _path(digest: str) -> str:
    return f"documents/{digest.removeprefix('sha256:')}"


def _seen(name: ImageName) -> str:
    return f"tags/{oci.sha256(str(name).encode()).removeprefix('sha256:')}"
