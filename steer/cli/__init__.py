"""The command line: parses, checks and calls the library."""
