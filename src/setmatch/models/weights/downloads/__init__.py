"""Downloads of weights: once, resumable, and checked."""
