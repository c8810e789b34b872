"""The report of an evaluation as an HTML page: errors and their cost, thresholds, worst images."""
