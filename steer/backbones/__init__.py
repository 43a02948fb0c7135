"""Model families; a plugin like any other. One small file each."""

from steer.hookspecs import hookimpl
from steer.plugins import Registry


@hookimpl
def steer_register(registry: Registry) -> None:
    """Name the pipeline classes that can be sampled."""
    registry.backbone(
        "StableDiffusionPipeline",
        "steer.backbones.sd:StableDiffusion",
        summary="Stable Diffusion 1.x and 2.x, epsilon- and v-prediction",
    )
    registry.backbone(
        "StableDiffusionXLPipeline",
        "steer.backbones.sdxl:StableDiffusionXL",
        summary="Stable Diffusion XL: base, turbo and fine-tunes",
    )
    registry.backbone(
        "StableDiffusion3Pipeline",
        "steer.backbones.sd3:StableDiffusion3",
        summary="Stable Diffusion 3 and 3.5",
    )
