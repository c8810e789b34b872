"""The candidates of the race, a file for each kind, their common parts and the report."""
