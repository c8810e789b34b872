"""Data sets: find, read, clean, audit and convert them; turn them into batches."""
