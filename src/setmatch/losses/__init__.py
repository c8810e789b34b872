"""Matching and losses of set prediction."""
