"""The page to watch a run by: curves, the images it is measured on, and its first batch."""
