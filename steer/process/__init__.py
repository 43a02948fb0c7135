"""Noise processes: how a state gets from noise to data."""

from steer.process.base import Process

__all__ = ["Process"]
