"""A server that detects objects in images, safe to expose to strangers."""
