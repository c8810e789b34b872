"""Large images in overlapping tiles."""
