"""Explanation: the attention behind detections, and what object queries are used for."""
