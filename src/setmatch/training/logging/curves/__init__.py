"""The curves of a run: from its log to a picture, a page, and a page to watch it by."""
