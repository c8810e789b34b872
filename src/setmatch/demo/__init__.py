"""The whole workflow on generated images, and the page that shows it."""
