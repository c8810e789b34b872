"""Optimizers, EMA and batch norm statistics."""
