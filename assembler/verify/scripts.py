"""Scripts of an image: what runs them, and whether they change the folder."""

from __future__ import annotations

import re

from assembler.verify.files import Files

_CD = re.compile(r"^\s*(?:cd|pushd)(?:\s|$)|(?:;|&&|\|\||\bthen|\bdo)\s*(?:cd|pushd)\s")


def missing_interpreter(files: Files, path: str) -> str:
    """Return what a script's first line names and the image has not, else ""."""
    real = files.tree.resolve(path)
    start = files.content(real).read(256) if real and files.tree[real].kind == "file" else b""
    if not start.startswith(b"#!"):
        return ""
    words = start[2:].split(b"\n")[0].decode(errors="replace").split()
    if not words:
        return ""
    if not files.is_executable(words[0].lstrip("/")):
        return words[0]
    if words[0].endswith("/env"):
        name = next((w for w in words[1:] if not w.startswith("-") and "=" not in w), "")
        return name if name and files.which(name) is None else ""
    return ""


def changes_folder(text: str) -> int:
    """Return the number of the first line of a shell script that changes the folder, or 0.

    One in parentheses, `(cd x; …)` or `$(cd x; pwd)`, changes it for itself alone. A script that
    remembers and comes back (`cd -`, popd) is believed.
    """
    inside = 0
    back = re.search(r"^\s*(?:cd\s+-|popd)", text, re.MULTILINE)
    if back:
        return 0
    for number, line in enumerate(text.splitlines(), 1):
        code = re.sub(r"(?:^|\s)#.*", "", line)
        code = re.sub(r"\\.|'[^']*'", "", code)
        if inside == 0 and _CD.search(re.sub(r"\$?\([^()]*\)", "", code)):
            return number
        # `case` has patterns that end in one parenthesis, so a surplus of these counts for none.
        inside = max(0, inside + code.count("(") - code.count(")"))
    return 0
