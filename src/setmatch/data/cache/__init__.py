"""Data sets kept on disk as arrays that processes share."""
