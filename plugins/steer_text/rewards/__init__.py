"""Rewards of texts."""
