"""Drawing of detections and segments on images of any size and content."""
