"""Checkpoints: written whole, verified, resumed exactly."""
