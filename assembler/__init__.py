"""Assemble a slim, CPU-only Triton Inference Server image out of the official full one."""

__version__ = "0.1.0"
