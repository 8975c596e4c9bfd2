"""Everything that `extract` needs for some images, in one file to carry over an air gap.

A bundle is a plain tar, the same bytes for the same inputs: a head, an index with the sha256 of
all the rest, and members named by theirs, so that images share what is equal. `file.py` has the
form, `making.py` the near side, `opening.py` and `bundled.py` the far one.
"""
