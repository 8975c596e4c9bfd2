"""One module for each command of the command line.

Each has HELP (a line), `add(parser)` for its words and `run(words, progress)`, which returns the
exit status; what is heavy is imported in `run`. Add a module to COMMANDS, and it is there.
"""

COMMANDS = (
    "extract", "plan", "verify", "inspect", "releases", "lock", "bundle", "mirror", "index",
    "cache",
)  # fmt: skip
