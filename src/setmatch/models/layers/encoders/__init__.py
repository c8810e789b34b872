"""Encoders: from the maps of a backbone to the memory of a decoder."""
