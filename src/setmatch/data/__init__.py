"""Data sets: find, read, clean, audit and convert them; turn them into batches."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
