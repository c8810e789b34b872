"""Heads: from the content of a query to its class, box and mask."""
