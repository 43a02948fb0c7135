"""Scoring image files: finding and reading them, their prompts, and the rows of scores so far.

Files come from anywhere. One that is not an image, damaged or far too large is reported, and the others are scored.
"""
