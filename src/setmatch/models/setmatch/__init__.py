"""The setmatch family: multi-scale, converges fast from random weights."""
