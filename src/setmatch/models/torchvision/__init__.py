"""Baselines from torchvision: Faster R-CNN and SSDLite."""
