"""Detection transformers, trained by matching sets of predictions to sets of objects."""
