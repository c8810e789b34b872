"""Formats of exported files: each is built, written, opened, and compared."""
