"""Bulk: a million images, on one machine or on a cluster, as rows of Parquet files."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
