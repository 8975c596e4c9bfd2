"""The assembler itself and what it needs, as wheels in a bundle."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from importlib import metadata
from pathlib import Path

from assembler import __version__, resources
from assembler.bundle.making import Members
from assembler.bundle.parts import BundleError
from assembler.progress import Progress

_NAME = "triton-assembler"
_BUILT_FROM = ("assembler", "stages", "patches", "Dockerfile.final",
               "pyproject.toml", "README.md", "LICENSE")  # fmt: skip
_EPOCH = "315532800"  # 1980, the first year that a zip can name
_SECONDS = 600

_README = """\
The assembler {version}, for {python} on {platform}, and images to make with it.
This file is a tar (parts: cat FILE.0* > FILE). With nothing but Python:

    tar xf FILE tools
    python3 -m venv assembler
    assembler/bin/pip install --no-index --find-links tools {name}
    assembler/bin/assembler bundle --check FILE
    assembler/bin/assembler extract --bundle FILE --offline --output triton.tar

triton.tar is for docker load, podman load, skopeo and ctr; without --output, the image goes into
the local Docker Engine.
"""


def gather(members: Members, scratch: Path, progress: Progress) -> None:
    """Add tools/*.whl and README.txt to `members`. Raises BundleError.

    The dependencies are those of this Python, in the versions that are installed: another isal
    would make other layers.
    """
    progress.say("gathering the assembler and its dependencies")
    folder = scratch / "tools"
    folder.mkdir()
    wheel = _own(scratch, folder)
    constraints = scratch / "constraints.txt"
    installed = sorted({f"{d.name}=={d.version}" for d in metadata.distributions()})
    own = (f"{_NAME}==", "pip==")
    lines = [line for line in installed if not line.lower().replace("_", "-").startswith(own)]
    constraints.write_text("\n".join(lines) + "\n")
    _pip("download", str(wheel), "--only-binary=:all:", "--dest", str(folder),
         "--constraint", str(constraints))  # fmt: skip
    for path in sorted(folder.glob("*.whl")):
        members.files[f"tools/{path.name}"] = path
    readme = scratch / "README.txt"
    python = f"Python {sys.version_info.major}.{sys.version_info.minor}"
    text = _README.format(
        version=__version__, python=python, platform=sysconfig.get_platform(), name=_NAME
    )
    readme.write_text(text)
    members.files["README.txt"] = readme


def _own(scratch: Path, folder: Path) -> Path:
    """Return the assembler's wheel in `folder`: built of a checkout, else as the index has it."""
    root = resources.path("stages").parent
    if (root / "pyproject.toml").is_file():
        copy = scratch / "checkout"
        copy.mkdir()
        for name in _BUILT_FROM:
            source = root / name
            if source.is_dir():
                shutil.copytree(source, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copyfile(source, copy / name)
        _pip("wheel", str(copy), "--no-deps", "--wheel-dir", str(folder))
    else:
        _pip("download", f"{_NAME}=={__version__}", "--no-deps", "--only-binary=:all:",
             "--dest", str(folder))  # fmt: skip
    return next(folder.glob("*.whl"))


def _pip(*words: str) -> None:
    command = [sys.executable, "-m", "pip", *words, "--quiet", "--no-input",
               "--disable-pip-version-check"]  # fmt: skip
    # A wheel built by setuptools has this time and these permissions, whoever builds it.
    env = os.environ | {"SOURCE_DATE_EPOCH": _EPOCH, "LC_ALL": "C.UTF-8"}
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=_SECONDS, env=env,
            stdin=subprocess.DEVNULL, umask=0o022,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise BundleError(f"--tools: pip {words[0]} did not end in {_SECONDS} s") from None
    if done.returncode:
        # What pip's own pip says, which fetches what builds a wheel, is indented.
        said = [line.strip() for line in done.stderr.strip().splitlines()]
        lines = [line for line in said if line.startswith("ERROR")]
        reason = (lines or said or ["no reason given"])[-1]
        raise BundleError(f"--tools: pip {words[0]}: {reason.removeprefix('ERROR: ')}")
