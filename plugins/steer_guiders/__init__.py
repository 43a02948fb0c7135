"""Guidance other than classifier-free guidance: the guiders of diffusers, as methods."""

from steer import hookimpl
from steer.plugin import Registry

METHODS = {
    "apg": "guidance whose part along the prediction is damped, against burnt colors (arXiv 2410.02416)",
    "cfg-zero": "guidance with the unconditional prediction rescaled, for flows (arXiv 2503.18886)",
    "fdg": "guidance with a scale of its own for high and for low frequencies (arXiv 2506.19713)",
    "mag": "guidance that is weak where the two predictions are far apart (arXiv 2508.03442)",
    "tcfg": "guidance without the tangential part of the unconditional prediction (arXiv 2503.18137)",
}


@hookimpl
def steer_register(registry: Registry) -> None:
    """Register the methods; nothing is imported yet."""
    for name, summary in METHODS.items():
        registry.method(name, f"steer_guiders.methods:{name.replace('-', '').upper()}", summary=summary)
