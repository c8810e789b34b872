"""What a machine can do: its threads, its memory, and the time of a step."""
