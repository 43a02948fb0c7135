"""Rendering prompt files: nothing lost, nothing twice, on one machine or many."""

from steer.render.renderer import Renderer
from steer.render.report import Plan, Summary, Watcher
from steer.render.spec import Spec

__all__ = ["Plan", "Renderer", "Spec", "Summary", "Watcher"]
