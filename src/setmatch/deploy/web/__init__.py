"""A page that runs a model on the machine of whoever opens it."""
