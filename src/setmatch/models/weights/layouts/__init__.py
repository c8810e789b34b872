"""Layouts of checkpoints: how published code and transformers name and store weights."""
