"""Serve a model repository from an image and check the answers, not just the readiness."""
