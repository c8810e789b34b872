"""Structures: what passes between data, models, losses and inference."""
