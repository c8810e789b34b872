"""YOLO: text files of boxes or polygons."""
