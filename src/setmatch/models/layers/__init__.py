"""Layers from which the model families are composed."""
