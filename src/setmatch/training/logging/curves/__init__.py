"""Training curves: from the log of a run to an image, a page, and a live page."""
