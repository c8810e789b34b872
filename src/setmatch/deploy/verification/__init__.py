"""The proof that an exported file predicts what the model does."""
