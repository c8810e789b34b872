"""Ablation studies of the paper, repeatable on generated scenes or other data."""
