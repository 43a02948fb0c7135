"""Prompts in picture files, as the tools that make pictures write them.

:mod:`carriers` collects a file's texts, :mod:`tools` knows whose they are, and :mod:`comfyui` follows a graph to the
text that the sampler drew from. A text that is not surely the prompt is none: it would be scored in silence.
"""
