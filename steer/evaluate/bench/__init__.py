"""Benchmarks: published prompts, rendered, judged and summarized as their papers do, by one command."""
