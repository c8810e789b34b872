"""Decoders: from queries and memory to predictions, layer by layer."""
