"""Generated images with known ground truth."""
