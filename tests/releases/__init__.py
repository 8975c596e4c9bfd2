"""Stand-ins of every release from 22.12 to 26.08, small ones.

real.py      the releases whose binaries PyPI has: NVIDIA's server and python backend, over layers
             that tests/standin made for 24.05
layouts.py   the others: paths, users, environment and package names as upstream's build.py has
             them; parts.py makes the packages and ELF files, with the sonames of the release
"""
