"""Detect objects in videos, cameras and streams."""
