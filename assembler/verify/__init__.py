"""Does an image serve? Looked at without starting it, then started and asked, then compared.

checks: what a check is, and how many of them become a report. static_*: of the files alone.
serving/: models made on the spot, a client, and what is asked. container: where an image runs.
"""
