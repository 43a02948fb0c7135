"""Model families, one small file each, registered like those of any plugin."""

from steer.registry.registration import hookimpl
from steer.registry.registry import Registry


@hookimpl
def steer_register(registry: Registry) -> None:
    """Register the pipeline classes that can be sampled."""
    registry.backbone(
        "StableDiffusionPipeline",
        "steer.models.families.sd:StableDiffusion",
        summary="Stable Diffusion 1.x and 2.x, epsilon- and v-prediction",
    )
    registry.backbone(
        "StableDiffusionXLPipeline",
        "steer.models.families.sdxl:StableDiffusionXL",
        summary="Stable Diffusion XL: base, turbo and fine-tunes",
    )
    registry.backbone(
        "StableDiffusion3Pipeline",
        "steer.models.families.sd3:StableDiffusion3",
        summary="Stable Diffusion 3 and 3.5",
    )
    registry.backbone(
        "QwenImagePipeline",
        "steer.models.families.qwen_image:QwenImage",
        summary="Qwen-Image",
    )
    registry.backbone(
        "ZImagePipeline",
        "steer.models.families.z_image:ZImage",
        summary="Z-Image, turbo included",
    )
    registry.backbone(
        "PixArtAlphaPipeline",
        "steer.models.families.pixart:PixArtAlpha",
        summary="PixArt-alpha",
    )
    registry.backbone(
        "PixArtSigmaPipeline",
        "steer.models.families.pixart:PixArtSigma",
        summary="PixArt-Sigma",
    )
    registry.backbone(
        "SanaPipeline",
        "steer.models.families.sana:Sana",
        summary="Sana and Sana 1.5",
    )
    registry.backbone(
        "SanaSprintPipeline",
        "steer.models.families.sana:SanaSprint",
        summary="SANA-Sprint, one to four steps",
    )
    registry.backbone(
        "FluxPipeline",
        "steer.models.families.flux:Flux",
        summary="Flux.1: dev and schnell",
    )
    registry.backbone(
        "Flux2Pipeline",
        "steer.models.families.flux2:Flux2",
        summary="Flux.2 dev",
    )
    registry.backbone(
        "Flux2KleinPipeline",
        "steer.models.families.flux2:Flux2Klein",
        summary="Flux.2 klein, base and distilled",
    )
