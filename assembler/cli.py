"""The command line: words to a command, errors to one line."""

from __future__ import annotations

import argparse
import importlib
import sys

from assembler import __version__
from assembler.commands import COMMANDS

_EXAMPLES = """examples:
  assembler extract 24.05                               into the local Docker Engine
  assembler extract 24.05 --output triton.tar           no Docker needed; docker load < triton.tar
  assembler extract 24.05 --source docker-daemon:nvcr.io/nvidia/tritonserver:24.05-py3
  assembler extract 24.05 --backend python --tag triton:py
  assembler extract 24.05 --push registry.local/team/triton:24.05
  assembler mirror 24.05 --to registry.local/ngc        full source and base, to read from there
  assembler plan 24.05                                  what would be taken, and how big it is
"""


def parser() -> argparse.ArgumentParser:
    """Return the parser of all commands."""
    top = argparse.ArgumentParser(
        prog="assembler",
        description="A slim, CPU-only Triton Inference Server image out of the official full one.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument("--version", action="version", version=f"assembler {__version__}")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name in COMMANDS:
        module = importlib.import_module(f"assembler.commands.{name}")
        module.add(commands.add_parser(name, help=module.HELP, description=module.HELP))
    return top


def run(arguments: list[str]) -> int:
    """Run one command and return its exit status; errors of ours become one line."""
    words = parser().parse_args(arguments)
    from assembler.errors import AssemblerError
    from assembler.progress import Progress, plain

    progress = Progress(-1 if words.quiet else 1 if words.verbose else 0)
    command = importlib.import_module(f"assembler.commands.{words.command}")
    try:
        status: int = command.run(words, progress)
    except AssemblerError as error:
        print(plain(f"assembler: {error}", "\n"), file=sys.stderr)
        return error.exit_status
    except BrokenPipeError:
        raise
    except OSError as error:
        # Disks fill and permissions lack anywhere; the file says which.
        where = f"{error.filename}: " if error.filename else ""
        print(plain(f"assembler: {where}{error.strerror or error}", "\n"), file=sys.stderr)
        return 1
    return status
