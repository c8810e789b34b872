"""Metrics: COCO AP and AR, panoptic quality, and the diagnosis of errors."""
