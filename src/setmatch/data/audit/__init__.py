"""A survey of a data set: what is in it, what is wrong with it, and a plan to train on it."""
