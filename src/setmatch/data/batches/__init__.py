"""From images to batches: sample, load in other processes, and augment."""
