"""Formats of annotated images: one folder each, with how to find, read and write it."""
