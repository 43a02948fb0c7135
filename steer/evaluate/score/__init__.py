"""Scoring image files: which there are, what they show, what they were made for, and what is scored already.

Files come from anywhere. One that is no image, cut short or far too large is reported and the others are scored.
"""
