"""Tuning: a search for the recipe settings that detect best on the validation split."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
