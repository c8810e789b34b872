"""The start of a run: its recipe, data, model and checkpoint."""
