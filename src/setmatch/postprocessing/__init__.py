"""From predictions to detections and segments in pixels of the image."""
