"""Checks of an audit: each returns findings."""
