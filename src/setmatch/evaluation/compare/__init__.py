"""Compare models by cost and AP, as in table 1 of arXiv 2005.12872."""
