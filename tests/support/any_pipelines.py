"""Tiny random pipelines of many classes that have no family here, put together from the families' parts."""

from __future__ import annotations

import copy
import functools
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import diffusers
import torch
from diffusers import (
    AuraFlowTransformer2DModel,
    ChromaTransformer2DModel,
    ControlNetModel,
    DDIMScheduler,
    DiTTransformer2DModel,
    FlowMatchEulerDiscreteScheduler,
    FluxControlNetModel,
    Lumina2Transformer2DModel,
    QwenImageControlNetModel,
    SD3ControlNetModel,
    UNet2DModel,
)
from PIL import Image

from support.edit_pipelines import tiny_hidream, tiny_qwen_image_edit
from support.families import inference
from support.families.flux import tiny_flux
from support.families.pixart import FAMILIES as PIXART
from support.families.qwen_image import tiny_qwen_image
from support.families.sana import tiny_sana, tiny_sprint
from support.families.sd import tiny_sd3, tiny_sdxl, tiny_vae
from support.families.texts import gemma_text, gemma_tokenizer, t5_text, t5_tokenizer
from support.families.z_image import tiny_z_image
from support.tiny import tiny_sd


def photo(side: int = 16, shade: int = 0) -> Image.Image:
    """Return a small picture with something in it."""
    image = Image.linear_gradient("L").resize((side, side))
    return Image.merge("RGB", [image, image.rotate(90 + shade), image.rotate(180)])


def mask(side: int = 16) -> Image.Image:
    """Return a mask whose right half is white."""
    image = Image.new("L", (side, side))
    image.paste(255, (side // 2, 0, side, side))
    return image


@dataclass(frozen=True)
class Kind:
    """A pipeline class, and a call of it.

    Attributes:
        name: the class.
        make: returns a pipeline with the same weights at every call.
        inputs: arguments of the call beside the text, as keys of a prompt's row.
        settings: of a run; the stock call's are in ``stock``.
        steps: of a run.
        noisy: settings with which copies of a particle part.
        rows: of one call; 1 for a class that makes one at a time.
        populations: how many show that FK moves a reward.
        stock: the further arguments of the stock call that mean the same.
        task: for the table in the docs.
    """

    name: str
    make: Callable[[], Any]
    inputs: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    stock: Mapping[str, Any] = field(default_factory=dict)
    steps: int = 4
    noisy: Mapping[str, Any] = field(default_factory=lambda: {"eta": 1.0})
    rows: int = 8
    populations: int = 5
    task: str = "text to image"


def of(name: str, base: Callable[[], Any], **more: Callable[[Any], Any]) -> Callable[[], Any]:
    """Return a function that makes a pipeline of a class from the parts of another, and some more made of those."""

    def make() -> Any:
        cls = getattr(diffusers, name)
        source = base()
        parts = dict(source.components)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(1)
            parts |= {part: build(parts) for part, build in more.items()}
        taken = inspect.signature(cls).parameters
        given = {part: module for part, module in parts.items() if part in taken}
        if "requires_safety_checker" in taken:
            given["requires_safety_checker"] = False
        if "add_watermarker" in taken:
            given["add_watermarker"] = False
        for part, parameter in taken.items():
            if part not in given and parameter.default is inspect.Parameter.empty:
                given[part] = None
        return inference(cls(**given))

    return make


def changed(part: str, **config: Any) -> Callable[[Mapping[str, Any]], Any]:
    """Return a builder of a part like the one of that name, with some of its configuration changed."""

    def build(parts: Mapping[str, Any]) -> Any:
        old = parts[part]
        known = {key: value for key, value in old.config.items() if not key.startswith("_")}
        return type(old)(**{**known, **config})

    return build


def controlnet(parts: Mapping[str, Any]) -> Any:
    made = ControlNetModel.from_unet(parts["unet"], conditioning_embedding_out_channels=(8, 16))
    return busy(made)


def busy(network: Any) -> Any:
    """Give a ControlNet's outputs, which begin at zero, something to say."""
    for parameter in network.parameters():
        if not bool(parameter.any()):
            torch.nn.init.normal_(parameter, std=0.05)
    return network


def sd3_controlnet(parts: Mapping[str, Any]) -> Any:
    transformer = copy.deepcopy(parts["transformer"])  # diffusers writes the number of layers into its configuration
    return busy(SD3ControlNetModel.from_transformer(transformer, num_layers=1, num_extra_conditioning_channels=0))


def flux_controlnet(parts: Mapping[str, Any]) -> Any:
    return busy(FluxControlNetModel.from_transformer(parts["transformer"], num_layers=1, num_single_layers=1,
                                                     attention_head_dim=8, num_attention_heads=4))  # fmt: skip


def qwen_controlnet(parts: Mapping[str, Any]) -> Any:
    return busy(
        QwenImageControlNetModel(
            in_channels=16, num_layers=1, attention_head_dim=8, num_attention_heads=4, joint_attention_dim=32,
            axes_dims_rope=(4, 2, 2), extra_condition_channels=0,
        )
    )  # fmt: skip


def tiny_pixart() -> Any:
    return next(family for family in PIXART if "sigma" in family.name).make()


def flow(_: Any) -> Any:
    return FlowMatchEulerDiscreteScheduler(shift=3.0)


def chroma(_: Any) -> Any:
    return ChromaTransformer2DModel(
        in_channels=16, num_layers=1, num_single_layers=1, attention_head_dim=8, num_attention_heads=4,
        joint_attention_dim=32, axes_dims_rope=(4, 2, 2), approximator_num_channels=16, approximator_hidden_dim=16,
        approximator_layers=1,
    )  # fmt: skip


def lumina2(_: Any) -> Any:
    return Lumina2Transformer2DModel(
        sample_size=8, patch_size=2, in_channels=4, hidden_size=24, num_layers=1, num_refiner_layers=1,
        num_attention_heads=3, num_kv_heads=1, multiple_of=16, ffn_dim_multiplier=None, norm_eps=1e-5,
        scaling_factor=1.0, axes_dim_rope=[4, 2, 2], axes_lens=[128, 128, 128], cap_feat_dim=32,
    )  # fmt: skip


def aura(_: Any) -> Any:
    return AuraFlowTransformer2DModel(
        sample_size=8, patch_size=2, in_channels=4, num_mmdit_layers=1, num_single_dit_layers=1, attention_head_dim=8,
        num_attention_heads=4, caption_projection_dim=32, joint_attention_dim=32, out_channels=4,
        pos_embed_max_size=256,
    )  # fmt: skip


def unconditional() -> Any:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        unet = UNet2DModel(
            sample_size=16, in_channels=3, out_channels=3, layers_per_block=1, block_out_channels=(8, 16),
            norm_num_groups=4, down_block_types=("DownBlock2D", "AttnDownBlock2D"),
            up_block_types=("AttnUpBlock2D", "UpBlock2D"), attention_head_dim=8,
        )  # fmt: skip
    return inference(diffusers.DDIMPipeline(unet, DDIMScheduler()))


def tiny_dit() -> Any:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        transformer = DiTTransformer2DModel(
            sample_size=8, num_layers=2, patch_size=2, attention_head_dim=8, num_attention_heads=2, in_channels=4,
            out_channels=8, num_embeds_ada_norm=1000, norm_elementwise_affine=False,
        )  # fmt: skip
        vae = tiny_vae(4)
    return inference(diffusers.DiTPipeline(transformer, vae, DDIMScheduler(clip_sample=False)))


def image_kinds() -> list[Kind]:
    """Return kinds made of Stable Diffusion's, SDXL's, SD3's and Flux's parts, and of others that are cheap."""
    image, control = {"image": photo()}, {"control_image": photo(16, 90)}
    paint = {"image": photo(), "mask_image": mask()}
    found: list[Kind] = []

    def add(name: str, base: Callable[[], Any], task: str, inputs: Mapping[str, Any] | None = None,
            more: Mapping[str, Any] | None = None, **keywords: Any) -> None:  # fmt: skip
        found.append(Kind(name, of(name, base, **(more or {})), inputs or {}, task=task, **keywords))

    half = {"strength": 0.8}
    with_control = {"controlnet": controlnet}
    for prefix, base in (("StableDiffusion", tiny_sd), ("StableDiffusionXL", tiny_sdxl)):
        add(f"{prefix}Img2ImgPipeline", base, "image to image", {**image, **half})
        add(f"{prefix}InpaintPipeline", base, "inpainting", {**paint, **half})
        add(f"{prefix}ControlNetPipeline", base, "ControlNet", image, with_control)
        add(f"{prefix}ControlNetImg2ImgPipeline", base, "ControlNet", {**image, **control, **half}, with_control)
        add(f"{prefix}ControlNetInpaintPipeline", base, "ControlNet", {**paint, **control, **half}, with_control)
        add(f"{prefix}PAGPipeline", base, "text to image")
        add(f"{prefix}PAGImg2ImgPipeline", base, "image to image", {**image, **half})
        add(f"{prefix}PAGInpaintPipeline", base, "inpainting", {**paint, **half})
        add(f"{prefix}ControlNetPAGPipeline", base, "ControlNet", image, with_control)
        add(f"{prefix}InstructPix2PixPipeline", base, "edit by instruction", image,
            {"unet": changed("unet", in_channels=8)})  # fmt: skip
    lcm = {"unet": changed("unet", time_cond_proj_dim=8), "scheduler": lambda _: diffusers.LCMScheduler()}
    add("LatentConsistencyModelPipeline", tiny_sd, "text to image", None, lcm, noisy={})
    add("LatentConsistencyModelImg2ImgPipeline", tiny_sd, "image to image", {**image, **half}, lcm, noisy={})
    add("SemanticStableDiffusionPipeline", tiny_sd, "text to image")
    # diffusers 0.42 fails at several rows per call
    add("StableDiffusion3Img2ImgPipeline", tiny_sd3, "image to image", {**image, **half}, rows=1)
    add("StableDiffusion3InpaintPipeline", tiny_sd3, "inpainting", {**paint, **half})
    add("StableDiffusion3PAGPipeline", tiny_sd3, "text to image")
    add("StableDiffusion3ControlNetPipeline", tiny_sd3, "ControlNet", control, {"controlnet": sd3_controlnet})
    dev = functools.partial(tiny_flux, shift=3.0, use_dynamic_shifting=True)
    size = {"width": 16, "height": 16}
    flux = {"settings": size, "stock": size}
    add("FluxImg2ImgPipeline", dev, "image to image", {**image, **half}, **flux)
    add("FluxInpaintPipeline", dev, "inpainting", {**paint, **half}, **flux)
    add("FluxKontextPipeline", dev, "edit by instruction", {**image, "_auto_resize": False, "max_area": 256},
        populations=8, **flux)  # fmt: skip
    double = {"transformer": changed("transformer", in_channels=32, out_channels=16)}
    add("FluxControlPipeline", dev, "ControlNet", control, double, **flux)
    add("FluxControlImg2ImgPipeline", dev, "ControlNet", {**image, **control, **half}, double, **flux)
    add("FluxControlNetPipeline", dev, "ControlNet", control, {"controlnet": flux_controlnet}, **flux)
    exact = {"use_resolution_binning": False}
    add("PixArtSigmaPAGPipeline", tiny_pixart, "text to image", {**exact, "clean_caption": False},
        noisy={"scheduler": "ddim", "eta": 1.0}, **flux)  # fmt: skip
    square, wide = {"width": 32, "height": 32}, {"width": 128, "height": 128}
    sana = {"settings": square, "stock": square}
    add("SanaPAGPipeline", tiny_sana, "text to image", exact, noisy={"scheduler": "flow-euler", "eta": 1.0},
        **sana)  # fmt: skip
    add("SanaSprintImg2ImgPipeline", tiny_sprint, "image to image",
        {"image": photo(32), "strength": 0.8, **exact}, steps=2, noisy={}, **sana)  # fmt: skip
    add("QwenImageImg2ImgPipeline", tiny_qwen_image, "image to image", {**image, **half}, **flux)
    add("QwenImageInpaintPipeline", tiny_qwen_image, "inpainting", {**paint, **half}, **flux)
    add("QwenImageControlNetPipeline", tiny_qwen_image, "ControlNet", control, {"controlnet": qwen_controlnet}, **flux)
    add("ZImageImg2ImgPipeline", tiny_z_image, "image to image", {**image, **half}, **flux)
    cut = {"tokenizer": lambda _: t5_tokenizer(), "text_encoder": lambda _: t5_text()}
    one = {"max_sequence_length": 16}
    add("ChromaPipeline", dev, "text to image", one, {"transformer": chroma, "scheduler": flow, **cut}, **flux)
    add("ChromaImg2ImgPipeline", dev, "image to image", {**one, **image, **half},
        {"transformer": chroma, "scheduler": flow, **cut}, **flux)  # fmt: skip
    gemma = {"tokenizer": lambda _: gemma_tokenizer(), "text_encoder": lambda _: gemma_text(gemma_tokenizer())}
    add("Lumina2Pipeline", dev, "text to image", {"max_sequence_length": 16},
        {"transformer": lumina2, "scheduler": flow, **gemma}, settings=size, stock=size)  # fmt: skip
    add("AuraFlowPipeline", tiny_sd, "text to image", {"max_sequence_length": 16},
        {"transformer": aura, "scheduler": flow, **cut}, populations=8, settings=size, stock=size)  # fmt: skip
    found.append(Kind("HiDreamImagePipeline", tiny_hidream, one))
    found.append(
        Kind(
            "QwenImageEditPipeline", tiny_qwen_image_edit, image, wide, wide, task="edit by instruction", populations=4
        )
    )
    found.append(Kind("DDIMPipeline", unconditional, task="without a text", rows=1))
    alone = {"guidance_scale": 1.0}  # with guidance, it steps latents that are doubled
    found.append(Kind("DiTPipeline", tiny_dit, {"class_labels": [3]}, alone, alone, task="by class", rows=1))
    return found
