"""The form of a bundle: a tar of a head, an index, and members whose sha256 the index has.

    assembler-bundle    text of four lines: format, sha256 and size of the index, size of it all
                        and of each part it was split into (0: none), sha256 of these lines
    index.json          canonical JSON: members in order, images
    sha256/HEX …        members, named by their sha256
    tools/NAME.whl …    the assembler as wheels, and README.txt, where they were asked for

The tar is all determined by the index, down to its padding, so that no bit of it can change
without being noticed.
"""

from __future__ import annotations

import hashlib
import json
import re
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, cast

from assembler import __version__, oci
from assembler.bundle.parts import BundleError, Parts, find, missing, numbered
from assembler.destinations import contents
from assembler.streams import CHUNK, InflatingReader, Readable, VerifiedReader

FORMAT = 1
_HEAD, _INDEX = "assembler-bundle", "index.json"
_TEXT = re.compile(
    rb"assembler bundle (\d+)\nindex ([0-9a-f]{64}) (\d{1,12})\nbytes (\d{1,15}) (\d{1,15})\n"
    rb"head ([0-9a-f]{64})\n"
)
_NAME = re.compile(r"sha256/[0-9a-f]{64}|tools/[A-Za-z0-9_+!][A-Za-z0-9_.+!-]*\.whl|README\.txt")
_BLOCK = tarfile.BLOCKSIZE


class Stored(NamedTuple):
    """A member: where its bytes lie in the bundle, how many, and their sha256 in hex."""

    offset: int
    size: int
    sha256: str


# -- writing -----------------------------------------------------------------------------------


def pieces(
    members: Mapping[str, Path], images: list[dict[str, Any]], part: int = 0
) -> tuple[int, Iterator[bytes]]:
    """Return a bundle's size and its bytes. members: files by name, in the order to write them."""
    listed = [
        (name, path.stat().st_size, oci.sha256_of(path).removeprefix("sha256:"))
        for name, path in members.items()
    ]
    index = oci.canonical({"images": images, "members": listed})
    first = ((_HEAD, len(_head(index, 0, 0))), (_INDEX, len(index)))
    sizes = [*first, *((name, size) for name, size, _ in listed)]
    total = sum(_length(name, size) for name, size in sizes) + 2 * _BLOCK
    files: dict[str, contents.Content] = {
        _HEAD: _head(index, total, part),
        _INDEX: index,
        **members,
    }
    return total, contents.tar(files)


def _head(index: bytes, total: int, part: int) -> bytes:
    digest = hashlib.sha256(index).hexdigest()
    text = (
        f"assembler bundle {FORMAT}\nindex {digest} {len(index)}\nbytes {total:015} {part:015}\n"
    ).encode()
    return text + _seal(text)


def _seal(text: bytes) -> bytes:
    return f"head {hashlib.sha256(text).hexdigest()}\n".encode()


def _header(name: str, size: int) -> bytes:
    info = tarfile.TarInfo(name)
    info.size = size
    return info.tobuf(tarfile.PAX_FORMAT)


def _length(name: str, size: int) -> int:
    # A header is longer than a block where the name is long (PAX).
    return len(_header(name, size)) + size + -size % _BLOCK


# -- reading -----------------------------------------------------------------------------------


class BundleFile:
    """An open bundle, of which head and index are verified, and `verify` does the rest.

    images: what the index says of them.
    """

    def __init__(self, files: list[Path]) -> None:
        """Open the file, or the parts in their order. Raises BundleError, UsageError."""
        files = find(files[0]) if len(files) == 1 else files
        self.parts = Parts(files)
        self.where = str(files[0])
        try:
            self._open(files)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            self.close()
            raise BundleError(f"{self.where} has a malformed index: {error}") from None
        except BaseException:
            self.close()
            raise

    def _open(self, files: list[Path]) -> None:
        first, text = self.parts.read(0, _BLOCK), self.parts.read(_BLOCK, _BLOCK).rstrip(b"\0")
        if len(first) < _BLOCK or not first.startswith(_HEAD.encode() + b"\0"):
            raise BundleError(
                f"{self.where} does not begin as a bundle does: it is none, is damaged, or is a "
                "later part"
            )
        said = re.match(rb"assembler bundle (\d+)\n", text)
        if said and int(said[1]) != FORMAT:
            raise BundleError(
                f"{self.where} has format {int(said[1])}, and assembler {__version__} reads format "
                f"{FORMAT}: use the assembler that made it (bundle --tools carries it)"
            )
        match = _TEXT.fullmatch(text)
        head = text[: text.rfind(b"head ")]
        if not match or text != head + _seal(head) or first != _header(_HEAD, len(text)):
            raise self._damaged(0)
        size, total, part = (int(match[n]) for n in (3, 4, 5))
        if part and len(files) < (count := -(-total // part)) and self.parts.size != total:
            last = Path(re.sub(r"\.\d{3}$", "", str(files[-1])))
            there = {path.name for path in files}
            lost = {n for n in range(1, count + 1) if numbered(last, n).name not in there}
            raise missing(last, lost or {count})
        at = 2 * _BLOCK
        index = self.parts.read(at + _BLOCK, size)
        if hashlib.sha256(index).hexdigest() != match[2].decode():
            if self.parts.size < at + _BLOCK + size:
                raise BundleError(f"{self.where} ends after {self.parts.size} of {total} bytes")
            raise self._damaged(at)
        self.parts.check(total, part)
        self._total, self._start = total, at
        document = json.loads(index)
        self.images: list[dict[str, Any]] = list(document["images"])
        self.members: dict[str, Stored] = {_INDEX: Stored(at + _BLOCK, size, match[2].decode())}
        at += _length(_INDEX, size)
        for name, size, sha256 in document["members"]:
            if not _NAME.fullmatch(name) or ".." in name:
                raise BundleError(f"{self.where} has a member with the name {name!r}; refused")
            if size < 0 or not oci.is_digest(f"sha256:{sha256}"):
                raise ValueError(name)
            self.members[name] = Stored(at + len(_header(name, size)), size, sha256)
            at += _length(name, size)
        if at + 2 * _BLOCK != total:
            raise ValueError("sizes")

    def verify(self) -> None:
        """Read every byte. Raises BundleError for the first that is not as it was written."""
        at = self._start
        for name, member in self.members.items():
            head = _header(name, member.size)
            if self.parts.read(at, len(head)) != head:
                raise self._damaged(at, at + len(head) - 1)
            digest, left, at = hashlib.sha256(), member.size, at + len(head)
            first = at
            while left:
                data = self.parts.read(at, min(CHUNK, left))
                if not data:
                    raise self._damaged(at)
                digest.update(data)
                left, at = left - len(data), at + len(data)
            padding = -at % _BLOCK
            if digest.hexdigest() != member.sha256 or any(self.parts.read(at, padding)):
                raise self._damaged(first, at + padding - 1)
            at += padding
        if self.parts.read(at, 3 * _BLOCK) != bytes(2 * _BLOCK):
            raise self._damaged(at)

    def _damaged(self, first: int, last: int | None = None) -> BundleError:
        names = " or ".join(map(str, self._between(first, first if last is None else last)))
        swapped = ", or the parts are swapped" if len(self.parts.paths) > 1 else ""
        return BundleError(
            f"{names} is damaged (its bytes are not what its checksums say){swapped}: copy it "
            "again, and check it with assembler bundle --check"
        )

    def _between(self, first: int, last: int) -> list[Path]:
        paths = self.parts.paths
        one, other = (paths.index(self.parts.at(each)) for each in (first, last))
        return paths[one : other + 1]

    def open(self, sha256: str, *, inflate: bool = False) -> BinaryIO:
        """Return the member of this sha256 (hex) as a stream that verifies it."""
        member = self.members[f"sha256/{sha256}"]
        what = f"member {sha256[:12]}… of {self.where}"
        raw = cast(BinaryIO, _Section(self.parts, member.offset, member.size))
        verified = VerifiedReader(raw, what, f"sha256:{sha256}", member.size)
        return cast(BinaryIO, InflatingReader(verified, what) if inflate else verified)

    def read(self, sha256: str, *, inflate: bool = False) -> bytes:
        """Return the bytes of a small member. Raises VerificationError."""
        with self.open(sha256, inflate=inflate) as file:
            return file.read()

    def close(self) -> None:
        """Close its files."""
        self.parts.close()

    def __enter__(self) -> BundleFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _Section(Readable):
    def __init__(self, parts: Parts, offset: int, size: int) -> None:
        self._parts, self._at, self._end = parts, offset, offset + size

    def read(self, size: int = -1) -> bytes:
        left = self._end - self._at
        data = self._parts.read(self._at, left if size < 0 else min(size, left))
        self._at += len(data)
        return data


def shown(image: Mapping[str, Any]) -> str:
    """Return an image of an index for a message."""
    return f"{image['release']} {', '.join(image['backends'])} ({image['platform']})"
