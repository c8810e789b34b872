"""Who runs in the race, a file for each kind of them, and what they have in common."""
