"""The schedule of a run: its length, learning rate, image sizes, and early end."""
