"""Helpers of the commands: groups of options, progress, tables, text that is safe to print."""
