"""Flux.2."""

from __future__ import annotations

import torch
from diffusers import (
    AutoencoderKLFlux2,
    FlowMatchEulerDiscreteScheduler,
    Flux2KleinPipeline,
    Flux2Pipeline,
    Flux2Transformer2DModel,
)
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import Tensor
from transformers import (
    Mistral3Config,
    Mistral3ForConditionalGeneration,
    PixtralImageProcessor,
    PixtralProcessor,
    PreTrainedTokenizerFast,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from support.families import Family, inference
from support.families.qwen_texts import qwen_tokenizer
from support.tiny import WORDS

WIDTH, HEIGHT = 16, 24
ROOM = 64
MEAN, VARIANCE = torch.linspace(-1, 1, 16).view(-1, 1, 1), torch.linspace(0.5, 2, 16).view(-1, 1, 1)
"""Of each channel of a patch of latents; (0, 1) would hide a mistake."""
SPECIAL = ["<pad>", "<s>", "</s>", "<unk>", "[IMG]", "[IMG_BREAK]", "[IMG_END]", "[INST]", "[/INST]",
           "[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]"]  # fmt: skip
MISTRAL_CHAT = (
    "<s>{% for message in messages %}{% if message.role == 'system' %}[SYSTEM_PROMPT]{{ message.content[0].text }}"
    "[/SYSTEM_PROMPT]{% else %}[INST]{{ message.content[0].text }}[/INST]{% endif %}{% endfor %}"
)


def mistral_processor() -> PixtralProcessor:
    """Return a processor of texts and images whose tokenizer knows a few words and no other."""
    vocabulary = {token: i for i, token in enumerate([*SPECIAL, *WORDS, *"0123456789"])}
    words = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=words, bos_token="<s>", eos_token="</s>", unk_token="<unk>", pad_token="<pad>",
        additional_special_tokens=SPECIAL[4:], padding_side="left",
    )  # fmt: skip
    return PixtralProcessor(PixtralImageProcessor(), tokenizer, chat_template=MISTRAL_CHAT)


def language_model(tokens: int, layers: int) -> dict[str, int]:
    """Return a small language model's configuration."""
    return {"vocab_size": tokens, "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": layers,
            "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 8}  # fmt: skip


def denoiser(guidance_embeds: bool) -> Flux2Transformer2DModel:
    """Return a random transformer for three layers of 16 features of text. Seed torch before."""
    return Flux2Transformer2DModel(
        in_channels=16, num_layers=1, num_single_layers=1, attention_head_dim=16, num_attention_heads=2,
        joint_attention_dim=48, timestep_guidance_channels=16, axes_dims_rope=(4, 4, 4, 4),
        guidance_embeds=guidance_embeds,
    )  # fmt: skip


def autoencoder() -> AutoencoderKLFlux2:
    """Return a random autoencoder that halves each side once, of high contrast. Seed torch before."""
    vae = AutoencoderKLFlux2(
        block_out_channels=(16, 32), latent_channels=4, norm_num_groups=8, sample_size=16,
        down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
    )  # fmt: skip
    vae.bn.running_mean.copy_(MEAN.flatten())
    vae.bn.running_var.copy_(VARIANCE.flatten())
    with torch.no_grad():
        vae.decoder.conv_out.weight *= 4
    return vae


def scheduler() -> FlowMatchEulerDiscreteScheduler:
    return FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=True)


def tiny_flux2() -> Flux2Pipeline:
    """Return Flux.2 dev."""
    processor = mistral_processor()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        text = {"model_type": "mistral", **language_model(len(processor.tokenizer), 30)}
        vision = {"model_type": "pixtral", "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1,
                  "num_attention_heads": 2, "image_size": 16, "patch_size": 8}  # fmt: skip
        encoder = Mistral3ForConditionalGeneration(
            Mistral3Config(text_config=text, vision_config=vision, image_token_index=SPECIAL.index("[IMG]"))
        )
        parts = {"text_encoder": encoder, "transformer": denoiser(True), "vae": autoencoder()}
    return inference(Flux2Pipeline(tokenizer=processor, scheduler=scheduler(), **parts))


def tiny_klein() -> Flux2KleinPipeline:
    """Return Flux.2 klein, the base model."""
    tokenizer = qwen_tokenizer()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        encoder = Qwen3ForCausalLM(Qwen3Config(**language_model(len(tokenizer), 27)))
        parts = {"text_encoder": encoder, "transformer": denoiser(False), "vae": autoencoder()}
    return inference(Flux2KleinPipeline(tokenizer=tokenizer, scheduler=scheduler(), **parts))


def unpacked(tokens: Tensor) -> Tensor:
    return tokens.mT.unflatten(2, (HEIGHT // 4, WIDTH // 4))


def normalized(latents: Tensor) -> Tensor:
    """Undo what klein's stock call does to latents even where it is to return them."""
    return (Flux2KleinPipeline._patchify_latents(latents) - MEAN) / (VARIANCE + 1e-4).sqrt()


def both(guidance_scale: float) -> tuple[dict[str, float], dict[str, float]]:
    """Return settings and the stock call's keyword arguments that mean the same."""
    return {"guidance_scale": guidance_scale}, {"guidance_scale": guidance_scale, "max_sequence_length": ROOM}


SMALL = {"size": (WIDTH, HEIGHT), "backbone": {"text_tokens": ROOM}, "negative": {},
         "schedulers": ("flow-euler", "flow-dpm++", "flow-unipc"), "stochastic": {"eta": 0.3}}  # fmt: skip

FAMILIES = [
    Family("flux2", tiny_flux2, *both(4.0), *both(1.0), spatial=unpacked, **SMALL),
    Family("flux2-klein", tiny_klein, *both(4.0), *both(1.0), spatial=normalized, **SMALL),
]
