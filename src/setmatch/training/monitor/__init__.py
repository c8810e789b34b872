"""The training monitor: warnings about a run that goes wrong."""
