"""Dockerfile.final: filled in, read, and carried out on an image config without a daemon.

Source: the Dockerfile reference (docs.docker.com) for the instructions; image-spec config.md for
what each leaves in the config.
"""

from __future__ import annotations

import json
import posixpath
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from assembler import oci
from assembler.errors import UsageError

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def fill(
    text: str, layers: Iterable[str], env: Mapping[str, str], labels: Mapping[str, str]
) -> str:
    """Return the template with its `# assembler:` lines filled in: a plain Dockerfile.

    layers: names of the layer archives in the build context, in order. In values of `env`,
    ${NAME} stays: it is the base's. Raises UsageError where a marker is missing.
    """
    filled = {
        "stages": [f"ADD {layer} /" for layer in layers],
        "env": [f"ENV {key}={_quoted(value)}" for key, value in sorted(env.items())],
        "labels": [f"LABEL {key}={_quoted(value)}" for key, value in sorted(labels.items())],
    }
    out = []
    seen = set()
    for line in text.splitlines():
        match = re.fullmatch(r"#\s*assembler:\s*(\w+)\s*", line)
        if match and match[1] in filled:
            seen.add(match[1])
            out += filled[match[1]]
        else:
            out.append(line)
    if "stages" not in seen:
        raise UsageError('the Dockerfile has no line "# assembler: stages": no stage would be in')
    return "\n".join(out) + "\n"


def _quoted(value: str) -> str:
    return '"' + re.sub(r'(["\\]|\$(?!\{))', r"\\\1", value) + '"'


def instructions(text: str) -> Iterator[tuple[int, str, str]]:
    """Yield line number, word in capitals and value of each instruction; `\\` joins lines."""
    word, start = "", 0
    parts: list[str] = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        if not word:
            word, _, line = line.strip().partition(" ")
            start, parts = number, []
        goes_on = line.rstrip().endswith("\\")
        parts.append(line.rstrip().removesuffix("\\"))
        if not goes_on:
            yield start, word.upper(), "".join(parts).strip()
            word = ""
    if word:
        yield start, word.upper(), "".join(parts).strip()


_TOKEN = re.compile(
    r"""(?P<space>\s+)|'(?P<single>[^']*)'|"(?P<double>(?:[^"\\]|\\.)*)"|(?P<bare>(?:[^\s'"\\]|\\.)+)""",
    re.DOTALL,
)
_VARIABLE = re.compile(r"\\(.)|\$(?:(\w+)|\{(\w+)(?::([-+])([^}]*))?\})", re.DOTALL)


def words(value: str, env: Mapping[str, str]) -> list[str]:
    """Return the words of `value` as the Dockerfile's own shell-like syntax has them: quotes
    taken away, escapes undone, $NAME, ${NAME}, ${NAME:-default} and ${NAME:+other} filled in.
    """

    def expand(text: str, quoted: bool) -> str:
        def one(match: re.Match[str]) -> str:
            escaped, bare, name, operator, other = match.groups()
            if escaped is not None:
                # Inside double quotes a backslash is only special before these three.
                return escaped if not quoted or escaped in '"\\$' else f"\\{escaped}"
            found = env.get(bare or name, "")
            if operator == "-":
                return found or other
            if operator == "+":
                return other if found else ""
            return found

        return _VARIABLE.sub(one, text)

    out: list[str] = []
    at, fresh = 0, True
    while at < len(value):
        match = _TOKEN.match(value, at)
        if match is None:
            raise ValueError(f"a quote is not closed in {value!r}")
        at = match.end()
        if match["space"]:
            fresh = True
            continue
        if match["single"] is not None:
            piece = match["single"]
        elif match["double"] is not None:
            piece = expand(match["double"], quoted=True)
        else:
            piece = expand(match["bare"], quoted=False)
        if fresh:
            out.append(piece)
        else:
            out[-1] += piece
        fresh = False
    return out


def _pairs(value: str, env: Mapping[str, str]) -> dict[str, str]:
    found = words(value, env)
    if found and "=" not in found[0]:  # the old form: NAME the rest of the line
        name, _, rest = value.partition(" ")
        return {name: " ".join(words(rest, env))}
    for word in found:
        if "=" not in word:
            raise ValueError(f"{word!r} is not of the form NAME=value")
    return dict(word.partition("=")[::2] for word in found)


def interpret(text: str, config: dict[str, Any], name: str = "Dockerfile.final") -> dict[str, Any]:
    """Return `config`, the base's, with what the filled-in Dockerfile in `text` sets.

    The ADD lines of stages are the caller's. Raises UsageError, with its line, for an
    instruction that nothing but a daemon can carry out.
    """
    settings: dict[str, Any] = dict(config.get("config") or {})
    env = oci.environment(config)
    env.setdefault("PATH", DEFAULT_PATH)
    runner = _Runner(settings, env)
    froms = 0
    for line, word, value in instructions(text):
        if word == "ADD" and re.fullmatch(r"layers/\S+ /", value):
            continue
        if word == "ARG" and froms == 0:
            continue
        if word == "FROM":
            froms += 1
            if froms == 1 and value in ("${BASE}", "$BASE"):
                continue
        method = getattr(runner, f"do_{word.lower()}", None)
        if method is None:
            raise UsageError(
                f"{name}: {word} {value[:40]!r} (line {line} as filled in) needs a daemon: "
                "use --builder engine"
            )
        try:
            method(value)
        except (ValueError, KeyError, IndexError) as error:
            raise UsageError(f"{name}: line {line} as filled in: {error}") from None
    settings["Env"] = [f"{key}={value}" for key, value in env.items()]
    return {**config, "config": settings}


class _Runner:
    """One method for each instruction that only changes the config."""

    def __init__(self, settings: dict[str, Any], env: dict[str, str]) -> None:
        self.settings, self.env = settings, env

    def _expand(self, value: str) -> str:
        return " ".join(words(value, self.env))

    def do_env(self, value: str) -> None:
        # All values of one line see the environment as it was before the line.
        self.env.update(_pairs(value, self.env))

    def do_label(self, value: str) -> None:
        labels = dict(self.settings.get("Labels") or {})
        labels.update(_pairs(value, self.env))
        self.settings["Labels"] = labels

    def do_workdir(self, value: str) -> None:
        now = self.settings.get("WorkingDir") or "/"
        self.settings["WorkingDir"] = posixpath.normpath(posixpath.join(now, self._expand(value)))

    def _command(self, value: str) -> list[str]:
        if value.lstrip().startswith("["):
            words = json.loads(value)
            if not all(isinstance(word, str) for word in words):
                raise ValueError(f"{value!r} is not a list of texts")
            return list(words)
        return ["/bin/sh", "-c", value]

    def do_entrypoint(self, value: str) -> None:
        self.settings["Entrypoint"] = self._command(value)
        # A base's CMD is for the base's entry point (docker build drops it as well).
        self.settings.pop("Cmd", None)

    def do_cmd(self, value: str) -> None:
        self.settings["Cmd"] = self._command(value)

    def do_user(self, value: str) -> None:
        self.settings["User"] = self._expand(value)

    def do_stopsignal(self, value: str) -> None:
        self.settings["StopSignal"] = self._expand(value)

    def do_expose(self, value: str) -> None:
        ports = dict(self.settings.get("ExposedPorts") or {})
        for port in self._expand(value).split():
            ports[port if "/" in port else f"{port}/tcp"] = {}
        self.settings["ExposedPorts"] = ports

    def do_volume(self, value: str) -> None:
        words = json.loads(value) if value.lstrip().startswith("[") else value.split()
        volumes = dict(self.settings.get("Volumes") or {})
        volumes.update({self._expand(word): {} for word in words})
        self.settings["Volumes"] = volumes
