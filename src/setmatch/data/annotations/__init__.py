"""Boxes and masks as annotations give them: read their convention, clean and decode them."""
