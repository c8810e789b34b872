"""The classes of published weights, by the ids that they use as class indices."""
