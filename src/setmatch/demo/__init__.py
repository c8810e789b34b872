"""The whole journey on generated pictures, and the page it ends with."""
