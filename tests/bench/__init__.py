"""The bench: docker pull + hand-written docker build beside `extract`, in one run."""
