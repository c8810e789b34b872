"""Measure how fast models run with each engine, and how much memory they take."""
