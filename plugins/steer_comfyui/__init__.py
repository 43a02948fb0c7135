"""ComfyUI nodes: rewards, choosing by score, and steered sampling of ComfyUI's own models.

ComfyUI finds them in a file ``custom_nodes/steer.py`` with the line ``from steer_comfyui import *``, or in a link to
this folder. Importing this needs no ComfyUI; running a sampler does.
"""

from steer_comfyui.nodes import NODE_CLASS_MAPPINGS, NODE_DISPLAY_NAME_MAPPINGS

__all__ = ["NODE_CLASS_MAPPINGS", "NODE_DISPLAY_NAME_MAPPINGS"]
