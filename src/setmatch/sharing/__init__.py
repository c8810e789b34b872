"""Share a trained model: what its page on the Hugging Face hub says, and the upload."""
