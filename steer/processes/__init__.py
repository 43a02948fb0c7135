"""Noise processes: the noise levels, the transitions between them, and the noise that these draw."""

from steer.processes.process import Process, RandomX0

__all__ = ["Process", "RandomX0"]
