"""Data classes that models, losses, data and inference exchange."""
