"""The audit of a data set: its statistics, its problems, and a recommended training plan."""
