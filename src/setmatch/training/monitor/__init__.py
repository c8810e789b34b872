"""The training monitor: what goes wrong, said in plain words."""
