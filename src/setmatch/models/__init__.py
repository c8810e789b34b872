"""The models: parts that compose into detectors."""
