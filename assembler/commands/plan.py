"""`assembler plan`: its words."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from assembler.commands import words as shared

if TYPE_CHECKING:
    from assembler.progress import Progress

HELP = "show what extract would read, take and drop"


def add(command: argparse.ArgumentParser) -> None:
    """Add the command's words."""
    shared.inputs(command)
    shared.messages(command)


def run(words: argparse.Namespace, progress: Progress) -> int:
    """Print the plan."""
    from assembler.plan import plan

    return plan(shared.options(words, progress), progress, as_json=words.json)
