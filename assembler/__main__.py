"""The command: `python -m assembler`, or `assembler` once installed."""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType


def _terminate(signum: int, _frame: FrameType | None) -> None:
    # As Ctrl-C: every `finally` and `with` on the way out cleans up.
    raise KeyboardInterrupt(signum)


def main() -> None:
    """Run the command line and exit with its status."""
    from assembler.cli import run

    signal.signal(signal.SIGTERM, _terminate)
    try:
        status = run(sys.argv[1:])
    except KeyboardInterrupt as stop:
        print("assembler: interrupted; nothing was delivered", file=sys.stderr)
        status = 128 + (stop.args[0] if stop.args else signal.SIGINT)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 1
    sys.exit(status)


if __name__ == "__main__":
    main()
