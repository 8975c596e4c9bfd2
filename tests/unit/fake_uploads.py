"""A registry in this process that can be written to, and told to misbehave while it is.

It is strict where the specification is: chunks in order, each at its session's newest Location,
manifests after what they point at.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

from assembler import oci
from tests.unit.fake_registry import Bearer, FakeRegistry, Reply, Request


@dataclass
class Upload:
    """A session: what came, and how often its place changed."""

    repository: str
    data: bytes = b""
    step: int = 0


def refusal(code: int, name: str, message: str = "", **headers: str) -> Reply:
    """An error as the specification has them."""
    document = {"errors": [{"code": name, "message": message or name.lower()}]}
    return Reply(code, dict(headers), json.dumps(document).encode())


class PushBearer(Bearer):
    """Wants tokens with the right to push for whatever is written. may_push: gives that right."""

    def __init__(self, *, may_push: bool = True, **more: object) -> None:
        super().__init__(**more)  # type: ignore[arg-type]
        self.may_push = may_push

    def __call__(self, request: Request, registry: FakeRegistry) -> Reply | None:
        if request.path == "/token" or not request.path.startswith("/v2/"):
            reply = super().__call__(request, registry)
            if not self.may_push:
                self.tokens = {
                    token: (scope.replace("pull,push", "pull"), end)
                    for token, (scope, end) in self.tokens.items()
                }
            return reply
        right = "pull" if request.method in ("GET", "HEAD") else "push"
        repository = re.split("/(?:manifests|blobs|tags|referrers)/", request.path)[0][4:]
        token = request.headers.get("authorization", "").removeprefix("Bearer ")
        granted, end = self.tokens.get(token, ("", 0.0))
        for scope in granted.split():
            _, of, rights = scope.split(":")
            if of == repository and right in rights.split(",") and self.clock() < end:
                return None
        scope = f"repository:{repository}:pull{',push' if right == 'push' else ''}"
        challenge = f'Bearer realm="{registry.url}/token",scope="{scope}"'
        return Reply(401, {"WWW-Authenticate": challenge})


class WritableRegistry(FakeRegistry):
    """Blobs belong to repositories here (`owned`), so that mounting means something.

    minimum: OCI-Chunk-Min-Length. relative: Locations without a host. elsewhere: a registry whose
    host takes the uploads. mounts: whether it mounts. chunks: whether it takes more than one.
    lists: whether it has the referrers API.
    """

    def __init__(self) -> None:
        super().__init__()
        self.owned: dict[str, set[str]] = {}
        self.uploads: dict[str, Upload] = {}
        self.minimum: int | None = None
        self.relative, self.mounts, self.chunks, self.lists = False, True, True, True
        self.elsewhere: WritableRegistry | None = None

    def _content(self, request: Request) -> Reply:
        if match := re.fullmatch("/v2/(.+)/blobs/uploads/([^/]*)", request.path):
            if request.method == "POST":
                return self._begin(match[1], request)
            return self._session(match[2], request)
        if match := re.fullmatch("/v2/(.+)/blobs/(sha256:.+)", request.path):
            if self.owned and match[2] not in self.owned.get(match[1], ()):
                return refusal(404, "BLOB_UNKNOWN")
        elif match := re.fullmatch("/v2/(.+)/manifests/(.+)", request.path):
            if request.method == "PUT":
                return self._put_manifest(match[1], match[2], request)
            reply = super()._content(request)
            if reply.status == 200:
                reply.headers["Docker-Content-Digest"] = oci.sha256(reply.body)
            return reply
        elif match := re.fullmatch("/v2/(.+)/referrers/(.+)", request.path):
            return self._referrers(match[1], match[2])
        return super()._content(request)

    def _begin(self, repository: str, request: Request) -> Reply:
        if "mount" in request.query and self.mounts:
            digest, origin = request.query["mount"][0], request.query["from"][0]
            if digest in self.owned.get(origin, ()):
                self.owned.setdefault(repository, set()).add(digest)
                return Reply(201, {"Location": f"/v2/{repository}/blobs/{digest}"})
        name = f"u{len(self.uploads)}"
        owner = self.elsewhere or self
        owner.uploads[name] = self.uploads[name] = Upload(repository)
        if self.elsewhere is not None:
            self.elsewhere.blobs, self.elsewhere.owned = self.blobs, self.owned
        headers = {} if self.minimum is None else {"OCI-Chunk-Min-Length": str(self.minimum)}
        return Reply(202, headers | owner._place(name))

    def _place(self, name: str) -> dict[str, str]:
        upload = self.uploads[name]
        path = f"/v2/{upload.repository}/blobs/uploads/{name}?state=a%2Fb%3D{upload.step}"
        end = max(0, len(upload.data) - 1)
        return {"Location": path if self.relative else self.url + path, "Range": f"0-{end}"}

    def _session(self, name: str, request: Request) -> Reply:
        upload = self.uploads.get(name)
        if upload is None:
            return refusal(404, "BLOB_UPLOAD_UNKNOWN")
        if request.query.get("state") != [f"a/b={upload.step}"] and request.method != "GET":
            return refusal(400, "BLOB_UPLOAD_INVALID", "not the place that was given")
        if request.method == "PATCH":
            return self._patch(name, upload, request)
        if request.method == "PUT":
            upload.data += request.body
            del self.uploads[name]
            [digest] = request.query["digest"]
            if oci.sha256(upload.data) != digest:
                return refusal(400, "DIGEST_INVALID")
            self.blobs[digest] = upload.data
            self.owned.setdefault(upload.repository, set()).add(digest)
            return Reply(201, {"Location": f"/v2/{upload.repository}/blobs/{digest}"})
        if request.method == "DELETE":
            del self.uploads[name]
        return Reply(204, {} if request.method == "DELETE" else self._place(name))

    def _patch(self, name: str, upload: Upload, request: Request) -> Reply:
        start, end = map(int, request.headers["content-range"].split("-"))
        if not self.chunks and upload.data:
            return refusal(400, "UNSUPPORTED", "one piece, please")
        if start != len(upload.data):
            return Reply(416, self._place(name))
        if end - start + 1 != len(request.body):
            return refusal(400, "SIZE_INVALID")
        upload.data += request.body
        upload.step += 1
        return Reply(202, self._place(name))

    def _put_manifest(self, repository: str, reference: str, request: Request) -> Reply:
        document = json.loads(request.body)
        wanted = [each["digest"] for each in document.get("layers", [])]
        wanted += [document["config"]["digest"]] if "config" in document else []
        if not set(wanted) <= self.owned.get(repository, set()):
            return refusal(400, "MANIFEST_BLOB_UNKNOWN", "blob unknown to registry")
        digest = oci.sha256(request.body)
        kept = (request.headers["content-type"], request.body)
        self.manifests[f"{repository}@{digest}"] = kept
        if ":" not in reference:
            self.manifests[f"{repository}:{reference}"] = kept
        headers = {"Docker-Content-Digest": digest}
        if "subject" in document and self.lists:
            headers["OCI-Subject"] = document["subject"]["digest"]
        return Reply(201, headers)

    def _referrers(self, repository: str, digest: str) -> Reply:
        if not self.lists:
            return Reply(404, {}, b"404 page not found")
        found = []
        for name, (kind, raw) in self.manifests.items():
            document = json.loads(raw)
            ours = name.startswith(f"{repository}@")
            if ours and document.get("subject", {}).get("digest") == digest:
                described = oci.Descriptor(kind, oci.sha256(raw), len(raw)).json()
                found.append(described | {"artifactType": document["artifactType"]})
        index = {"schemaVersion": 2, "mediaType": oci.OCI_INDEX, "manifests": found}
        return Reply(200, {"Content-Type": oci.OCI_INDEX}, json.dumps(index).encode())
