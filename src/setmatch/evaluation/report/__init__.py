"""Why the numbers are what they are: errors and their cost, scores, layers, the worst images."""
