"""Logs, console output and curves of a run."""
