"""Models side by side: what each costs, and what each finds (arXiv 2005.12872, table 1)."""
