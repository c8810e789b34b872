"""Each format of annotated images: which files are it, reading them, writing them."""
