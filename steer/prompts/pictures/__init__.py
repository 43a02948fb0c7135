"""Reading prompts from picture files of other tools.

:mod:`carriers` collects a file's texts, :mod:`tools` recognizes their tools, and :mod:`comfyui` follows a graph to the
sampler's text. A doubtful text does not count as the prompt, because it would be scored without a warning.
"""
