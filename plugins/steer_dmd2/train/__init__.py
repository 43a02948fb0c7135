"""Distilling a diffusion model into a one- or few-step student (DMD2, arXiv 2405.14867)."""
