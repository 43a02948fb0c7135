"""Detectors of transformers: COCO's classes with masks, or any class that can be named."""
