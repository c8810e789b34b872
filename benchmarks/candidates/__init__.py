"""The contestants of the race, a file for each kind, and their common parts."""
