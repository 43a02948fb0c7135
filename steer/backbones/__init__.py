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
    registry.backbone(
        "QwenImagePipeline",
        "steer.backbones.qwen_image:QwenImage",
        summary="Qwen-Image",
    )
    registry.backbone(
        "ZImagePipeline",
        "steer.backbones.z_image:ZImage",
        summary="Z-Image, turbo included",
    )
    registry.backbone(
        "PixArtAlphaPipeline",
        "steer.backbones.pixart:PixArtAlpha",
        summary="PixArt-alpha",
    )
    registry.backbone(
        "PixArtSigmaPipeline",
        "steer.backbones.pixart:PixArtSigma",
        summary="PixArt-Sigma",
    )
    registry.backbone(
        "SanaPipeline",
        "steer.backbones.sana:Sana",
        summary="Sana and Sana 1.5",
    )
    registry.backbone(
        "FluxPipeline",
        "steer.backbones.flux:Flux",
        summary="Flux.1: dev and schnell",
    )
    registry.backbone(
        "Flux2Pipeline",
        "steer.backbones.flux2:Flux2",
        summary="Flux.2 dev",
    )
    registry.backbone(
        "Flux2KleinPipeline",
        "steer.backbones.flux2:Flux2Klein",
        summary="Flux.2 klein, base and distilled",
    )
