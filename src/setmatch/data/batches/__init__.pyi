from . import transforms as transforms

__all__ = ["transforms"]
