"""The page of a server: drop an image, see its boxes."""
