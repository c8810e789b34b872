"""Metrics: average precision, panoptic quality, error types."""
