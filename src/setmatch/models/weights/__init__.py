"""Weight files: model cards, downloads, key maps, int8 storage."""
