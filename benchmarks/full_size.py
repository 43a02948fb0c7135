"""Pipelines at full size by their published configurations, to be made without content on the meta device."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from unittest.mock import patch

import torch
from diffusers import (
    AutoencoderDC,
    AutoencoderKL,
    AutoencoderKLQwenImage,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    FluxPipeline,
    FluxTransformer2DModel,
    QwenImagePipeline,
    QwenImageTransformer2DModel,
    SanaPipeline,
    SanaTransformer2DModel,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
    ZImagePipeline,
    ZImageTransformer2DModel,
)
from support.families.qwen_texts import qwen_tokenizer
from support.families.texts import gemma_tokenizer, t5_tokenizer
from support.tiny import clip_tokenizer
from torch import Tensor, nn
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    Gemma2Config,
    Gemma2Model,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen3Config,
    Qwen3Model,
    T5Config,
    T5EncoderModel,
)

from steer.models.quantize import quantize


def clip_l(projection: bool = False) -> nn.Module:
    """Return the text encoder of ViT-L-14."""
    config = CLIPTextConfig(hidden_size=768, intermediate_size=3072, num_hidden_layers=12, num_attention_heads=12,
                            projection_dim=768, eos_token_id=1, bos_token_id=0)  # fmt: skip
    return (CLIPTextModelWithProjection if projection else CLIPTextModel)(config)


def clip_big_g() -> nn.Module:
    """Return the text encoder of ViT-bigG-14."""
    config = CLIPTextConfig(hidden_size=1280, intermediate_size=5120, num_hidden_layers=32, num_attention_heads=20,
                            projection_dim=1280, eos_token_id=1, bos_token_id=0)  # fmt: skip
    return CLIPTextModelWithProjection(config)


def t5_xxl() -> nn.Module:
    """Return the encoder of T5 v1.1 XXL."""
    config = T5Config(vocab_size=32128, d_model=4096, d_kv=64, d_ff=10240, num_layers=24, num_heads=64,
                      feed_forward_proj="gated-gelu")  # fmt: skip
    return T5EncoderModel(config)


def kl(channels: int, **config: Any) -> AutoencoderKL:
    """Return the autoencoder of Stable Diffusion's size."""
    return AutoencoderKL(
        block_out_channels=(128, 256, 512, 512), layers_per_block=2, latent_channels=channels, sample_size=1024,
        down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4, **config,
    )  # fmt: skip


def schedule(cls: Any, **config: Any) -> Any:
    """Return a scheduler, which has content."""
    with torch.device("cpu"):
        return cls(**config)


def sd15() -> Any:
    """Return Stable Diffusion 1.5."""
    unet = UNet2DConditionModel(sample_size=64, cross_attention_dim=768, attention_head_dim=8)
    return StableDiffusionPipeline(
        vae=kl(4), text_encoder=clip_l(), tokenizer=clip_tokenizer(77), unet=unet,
        scheduler=schedule(EulerDiscreteScheduler),
        safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip


def sdxl_unet() -> UNet2DConditionModel:
    """Return SDXL's denoiser."""
    return UNet2DConditionModel(
        sample_size=128, block_out_channels=(320, 640, 1280), attention_head_dim=(5, 10, 20),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"), cross_attention_dim=2048,
        transformer_layers_per_block=(1, 2, 10), use_linear_projection=True, addition_embed_type="text_time",
        addition_time_embed_dim=256, projection_class_embeddings_input_dim=2816,
    )  # fmt: skip


def sdxl(scheduler: Any = EulerDiscreteScheduler) -> Any:
    """Return SDXL base, or its turbo."""
    return StableDiffusionXLPipeline(
        vae=kl(4, force_upcast=True), text_encoder=clip_l(), text_encoder_2=clip_big_g(), tokenizer=clip_tokenizer(77),
        tokenizer_2=clip_tokenizer(77), unet=sdxl_unet(), scheduler=schedule(scheduler), add_watermarker=False,
    )  # fmt: skip


def sd35_large() -> Any:
    """Return Stable Diffusion 3.5 large."""
    transformer = SD3Transformer2DModel(
        sample_size=128, patch_size=2, in_channels=16, out_channels=16, num_layers=38, attention_head_dim=64,
        num_attention_heads=38, joint_attention_dim=4096, caption_projection_dim=2432, pooled_projection_dim=2048,
        pos_embed_max_size=192, qk_norm="rms_norm",
    )  # fmt: skip
    return StableDiffusion3Pipeline(
        transformer=transformer, vae=kl(16, shift_factor=0.0609, scaling_factor=1.5305, use_quant_conv=False,
                                        use_post_quant_conv=False),
        text_encoder=clip_l(True), text_encoder_2=clip_big_g(), text_encoder_3=t5_xxl(),
        tokenizer=clip_tokenizer(77), tokenizer_2=clip_tokenizer(77), tokenizer_3=t5_tokenizer(),
        scheduler=schedule(FlowMatchEulerDiscreteScheduler, shift=3.0),
    )  # fmt: skip


def z_image_turbo() -> Any:
    """Return Z-Image-Turbo."""
    encoder = Qwen3Config(vocab_size=151936, hidden_size=2560, intermediate_size=9728, num_hidden_layers=36,
                          num_attention_heads=32, num_key_value_heads=8, head_dim=128)  # fmt: skip
    return ZImagePipeline(
        transformer=ZImageTransformer2DModel(),
        vae=kl(16, shift_factor=0.1159, scaling_factor=0.3611, use_quant_conv=False, use_post_quant_conv=False),
        text_encoder=Qwen3Model(encoder), tokenizer=qwen_tokenizer(),
        scheduler=schedule(FlowMatchEulerDiscreteScheduler, shift=3.0),
    )  # fmt: skip


def sana() -> Any:
    """Return Sana 1.6B at 1024 px."""
    gemma = Gemma2Config(vocab_size=256000, hidden_size=2304, intermediate_size=9216, num_hidden_layers=26,
                         num_attention_heads=8, num_key_value_heads=4, head_dim=256)  # fmt: skip
    blocks = {
        "block_types": ("ResBlock",) * 3 + ("EfficientViTBlock",) * 3,
        "block_out_channels": (128, 256, 512, 512, 1024, 1024), "qkv_multiscales": ((), (), (), (5,), (5,), (5,)),
    }  # fmt: skip
    sides = {f"{side}_{name}": value for side in ("encoder", "decoder") for name, value in blocks.items()}
    vae = AutoencoderDC(
        latent_channels=32, encoder_layers_per_block=(2, 2, 2, 3, 3, 3), decoder_layers_per_block=(3,) * 6,
        downsample_block_type="conv", upsample_block_type="interpolate", scaling_factor=0.41407, **sides,
    )  # fmt: skip
    return SanaPipeline(
        tokenizer=gemma_tokenizer(), text_encoder=Gemma2Model(gemma), vae=vae, transformer=SanaTransformer2DModel(),
        scheduler=schedule(FlowMatchEulerDiscreteScheduler, shift=3.0),
    )  # fmt: skip


def flux_schnell() -> Any:
    """Return Flux.1-schnell."""
    return FluxPipeline(
        transformer=FluxTransformer2DModel(),
        vae=kl(16, shift_factor=0.1159, scaling_factor=0.3611, use_quant_conv=False, use_post_quant_conv=False),
        text_encoder=clip_l(), text_encoder_2=t5_xxl(), tokenizer=clip_tokenizer(77), tokenizer_2=t5_tokenizer(),
        scheduler=schedule(FlowMatchEulerDiscreteScheduler),
    )  # fmt: skip


def qwen_image() -> Any:
    """Return Qwen-Image."""
    text = {
        "vocab_size": 152064, "hidden_size": 3584, "intermediate_size": 18944, "num_hidden_layers": 28,
        "num_attention_heads": 28, "num_key_value_heads": 4,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [16, 24, 24]},
    }  # fmt: skip
    vision = {"depth": 32, "hidden_size": 1280, "intermediate_size": 3420, "num_heads": 16, "out_hidden_size": 3584}
    return QwenImagePipeline(
        transformer=QwenImageTransformer2DModel(), vae=AutoencoderKLQwenImage(), tokenizer=qwen_tokenizer(),
        text_encoder=Qwen2_5_VLForConditionalGeneration(Qwen2_5_VLConfig(text_config=text, vision_config=vision)),
        scheduler=schedule(
            FlowMatchEulerDiscreteScheduler, use_dynamic_shifting=True, base_shift=0.5, max_shift=0.9,
            base_image_seq_len=256, max_image_seq_len=8192, shift_terminal=0.02, time_shift_type="exponential",
        ),
    )  # fmt: skip


class Nf4(nn.Module):
    """The memory of a linear layer of bitsandbytes in nf4: half a byte per weight, and a byte for each 64 of them.

    It stands in for the package's own layer, whose kernels read weights, and these have no content.
    """

    def __init__(self, linear: nn.Linear) -> None:
        """Args: linear: the layer whose place it takes."""
        super().__init__()
        count = linear.weight.numel()
        self.shape, self.bias = linear.weight.shape, linear.bias
        self.register_buffer("packed", torch.empty(count // 2, dtype=torch.uint8, device="meta"))
        self.register_buffer("scales", torch.empty(count // 64, dtype=torch.uint8, device="meta"))

    def forward(self, x: Tensor) -> Tensor:
        """Multiply by weights that are unpacked for as long as that takes."""
        return nn.functional.linear(x, torch.empty(self.shape, dtype=x.dtype, device=x.device), self.bias)


def in_nf4(pipe: Any) -> Any:
    """Put :class:`Nf4` in place of the layers that ``--quantize nf4`` takes."""

    def stand_in(part: nn.Module, taken: Callable[[nn.Module, str], bool]) -> None:
        for name, layer in list(part.named_modules()):
            if taken(layer, name):
                owner, _, leaf = name.rpartition(".")
                setattr(part.get_submodule(owner), leaf, Nf4(layer))

    with patch("steer.models.quantize._in_nf4", stand_in):
        quantize(pipe, "nf4")
    return pipe
