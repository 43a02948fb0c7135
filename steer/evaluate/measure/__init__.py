"""Measures of folders: of images against a reference, and of masks and classes against the truth."""
