"""Image files: find, decode, and check them."""
