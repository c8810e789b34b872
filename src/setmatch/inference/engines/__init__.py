"""Engines: what executes a detector on a batch."""
