"""Matching and losses: how a set of predictions is trained."""
