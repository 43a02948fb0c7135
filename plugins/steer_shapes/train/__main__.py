"""``python -m steer_shapes.train``: the same command as ``steer train shapes``."""

from .cli import command

command()
