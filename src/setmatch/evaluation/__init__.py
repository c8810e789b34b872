"""How good a model is: the COCO numbers, overall and by class, and what is behind them."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
