"""Categories of prompts, and the weights that ratings give rewards in each."""
