"""A server that answers images with detections, and can stand in the open."""
