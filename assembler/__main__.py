"""The command: `python -m assembler`, or `assembler` once installed."""

from __future__ import annotations

import gc
import os
import sys

from assembler import interrupts


def main() -> None:
    """Run the command line and exit with its status."""
    # A run makes hundreds of thousands of tuples that live to its end and next to no cycles:
    # looking for those again and again took a tenth of a run's own time.
    gc.disable()
    try:
        interrupts.listen()
        from assembler.cli import run

        status = run(sys.argv[1:])
        interrupts.finish()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 1
    except (Exception, KeyboardInterrupt):
        # Not always a Stopped: Python 3.10 and 3.11 wrap what is raised while a class is made.
        if not interrupts.received():
            raise
        print("assembler: interrupted; nothing half made is left", file=sys.stderr)
        status = 128 + interrupts.received()
    sys.exit(status)


if __name__ == "__main__":
    main()
