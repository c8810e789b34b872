"""The loop of a run, and its parts: a step, an evaluation, what is saved and reported."""
