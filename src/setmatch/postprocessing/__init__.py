"""Decoding of predictions into detections and segments, in pixels of the original image."""
