"""Models for use outside of PyTorch: files, and the proof that they predict the same."""
