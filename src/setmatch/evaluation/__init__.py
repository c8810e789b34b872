"""How good a model is: the COCO numbers, overall and by class, and what is behind them."""
