"""The command line: parses, checks and calls the library."""

from steer.cli.app import main

__all__ = ["main"]
