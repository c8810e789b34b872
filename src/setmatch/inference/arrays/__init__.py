"""Prediction with an exported file and NumPy alone: nothing here needs torch."""
