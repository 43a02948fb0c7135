"""The command line in this process, as for other commands."""

from cli.conftest import place, steer, tiny  # noqa: F401
