"""Data sets, as they are, into batches."""
