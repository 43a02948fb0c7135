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

AWAY = {
    "pag": "guidance away from a prediction whose self-attention is perturbed, in some layers (arXiv 2403.17377)",
    "seg": "guidance away from a prediction whose self-attention is blurred, in some layers (arXiv 2408.00760)",
    "slg": "guidance away from a prediction without some layers, as SD3.5 has it",
}


@hookimpl
def steer_register(registry: Registry) -> None:
    """Register the methods; nothing is imported yet."""
    for name, summary in METHODS.items():
        registry.method(name, f"steer_guiders.methods:{name.replace('-', '').upper()}", summary=summary)
    for name, summary in AWAY.items():
        registry.method(name, f"steer_guiders.weaker:{name.upper()}", summary=summary)
