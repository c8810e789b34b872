"""Attention, position encodings, and sampling of feature maps."""
