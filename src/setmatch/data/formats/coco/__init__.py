"""COCO: detection, instance segmentation and panoptic segmentation."""
