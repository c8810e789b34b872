"""Reading, writing and locking of files and folders."""
