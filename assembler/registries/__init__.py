"""Registries over the distribution API: reading, writing, logging in, mirrors."""
