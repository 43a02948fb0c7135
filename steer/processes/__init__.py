"""Noise processes: how a state gets from noise to data."""

from steer.processes.process import Process, RandomX0

__all__ = ["Process", "RandomX0"]
