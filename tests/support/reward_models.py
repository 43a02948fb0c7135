"""Reward models of tiny size in folders, as users have them: weights, configurations and vocabularies."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from torch import Tensor
from torchvision.transforms import Compose, Normalize, ToTensor
from transformers import (
    CLIPImageProcessor,
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerFast,
    Qwen2VLConfig,
    Qwen2VLForConditionalGeneration,
    Qwen2VLImageProcessor,
    Qwen2VLProcessor,
    Qwen2VLVideoProcessor,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
    Qwen3VLProcessor,
    Qwen3VLVideoProcessor,
)

from steer import Prompt
from steer.testing import example_samples
from steer_rewards.preprocess import CLIP_MEAN, CLIP_STD

DATA = Path(__file__).parents[1] / "plugins" / "rewards" / "data"

_BERT = (
    "[PAD] [UNK] [CLS] [SEP] [MASK] yes no is there are the a an in image ? red blue green orange circle square star "
    "triangle cross to left right of above below and two three does this show dotted"
)
_T5 = '<pad> </s> <unk> Yes Does this figure show " red blue circle square a and two ? USER :'
BERT_WORDS, T5_WORDS = _BERT.split(), _T5.split()
CHAT = (
    "{% for m in messages %}USER: {% for c in m['content'] %}{% if c['type'] == 'image' %}<image>\n"
    "{% else %}{{ c['text'] }}{% endif %}{% endfor %}{% endfor %} ASSISTANT:"
)


def fixture(name: str) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return a reference model's state dict, and its inputs, scores and gradients."""
    content = load_file(DATA / f"{name}.safetensors")
    state = {key.removeprefix("state_dict/"): value for key, value in content.items() if key.startswith("state_dict/")}
    return state, {key: value for key, value in content.items() if not key.startswith("state_dict/")}


def layout(name: str) -> dict[str, torch.Size]:
    """Return the names and shapes of a published checkpoint's tensors."""
    found = {}
    for line in (DATA / f"{name}.layout").read_text().splitlines():
        if line.startswith("#"):
            continue
        tensor, _, sizes = line.partition(" ")
        shape = torch.Size(int(size) for size in sizes.split("x") if size)
        numbers = re.search(r"\{(\d+)\.\.(\d+)\}", tensor)
        for number in range(int(numbers[1]), int(numbers[2]) + 1) if numbers else [0]:
            found[tensor.replace(numbers[0], str(number)) if numbers else tensor] = shape
    return found


def blip_config(vision_width: int, vision_eps: float = 1e-6) -> dict[str, Any]:
    """Return the ``config.json`` of the fixtures' BLIPs."""
    return {
        "vision_config": {
            "hidden_size": vision_width, "num_hidden_layers": 2, "num_attention_heads": 4,
            "intermediate_size": 4 * vision_width, "image_size": 32, "patch_size": 8, "layer_norm_eps": vision_eps,
        },
        "text_config": {
            "vocab_size": 40, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
            "intermediate_size": 64, "max_position_embeddings": 64, "bos_token_id": 38, "sep_token_id": 3,
        },
    }  # fmt: skip


def blip_folder(folder: Path, name: str, file: str, vision_width: int, key: str | None = None) -> Path:
    """Write a fixture's BLIP as its authors would have published it; return the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    state, _ = fixture(name)
    torch.save(state if key is None else {key: state}, folder / file)
    (folder / "config.json").write_text(json.dumps(blip_config(vision_width)))
    (folder / "vocab.txt").write_text("\n".join(BERT_WORDS) + "\n")
    return folder


def imagereward_folder(folder: Path) -> Path:
    """Write the fixture's ImageReward."""
    return blip_folder(folder, "imagereward", "ImageReward.pt", 48)


def blip_vqa_folder(folder: Path) -> Path:
    """Write the fixture's BLIP-VQA."""
    return blip_folder(folder, "blip_vqa", "model_base_vqa_capfilt_large.pth", 32, "model")


def clip_flant5_config() -> dict[str, Any]:
    """Return the ``config.json`` of the fixture's CLIP-FlanT5."""
    return {
        "model_type": "clip_t5", "vocab_size": 60, "d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2,
        "num_heads": 4, "feed_forward_proj": "gated-gelu", "tie_word_embeddings": False, "mm_hidden_size": 16,
        "decoder_start_token_id": 0, "eos_token_id": 1, "pad_token_id": 0,
        "vision_config": {
            "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2,
            "image_size": 32, "patch_size": 8,
        },
    }  # fmt: skip


def clip_flant5_folder(folder: Path) -> Path:
    """Write the fixture's CLIP-FlanT5 with a tokenizer that ends texts as T5's does."""
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(fixture("clip_flant5")[0], folder / "pytorch_model.bin")
    (folder / "config.json").write_text(json.dumps(clip_flant5_config()))
    tokenizer = words_tokenizer(T5_WORDS)
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


def words_tokenizer(words: list[str]) -> Tokenizer:
    """Return a tokenizer that splits at spaces and punctuation and knows these words only."""
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return tokenizer


def photograph(size: tuple[int, int]) -> tuple[Image.Image, Tensor]:
    """Return a smooth picture of (width, height), and the same as ``[1, 3, H, W]`` in [0, 1]."""
    small = np.random.default_rng(0).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    picture = Image.fromarray(small).resize(size, Image.Resampling.BICUBIC)
    return picture, ToTensor()(picture)[None]


def compose(*transforms: Any) -> Callable[[Image.Image], Tensor]:
    """Return torchvision's transforms of a picture with the conversion and normalization that CLIPs and BLIPs share."""
    return Compose([*transforms, ToTensor(), Normalize(CLIP_MEAN, CLIP_STD)])


def scenes(count: int = 4) -> tuple[Tensor, list[Prompt]]:
    """Return some of the conformance kit's samples with their prompts, spread over the categories."""
    samples, prompts = example_samples()
    rows = range(0, len(prompts), len(prompts) // count)[:count]
    return samples[list(rows)], [prompts[row] for row in rows]


def vlm_tokenizer(*special: str) -> tuple[PreTrainedTokenizerFast, list[str]]:
    """Return a tokenizer of transformers with special tokens, and its words."""
    words = ["<pad>", "<unk>", "<s>", "</s>", *special, *T5_WORDS[3:], "Please", "answer", "yes", "or", "no", "."]
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=words_tokenizer(words), unk_token="<unk>", pad_token="<pad>", bos_token="<s>",
        eos_token="</s>", additional_special_tokens=list(special),
    )  # fmt: skip
    return tokenizer, words


def llama_config(words: list[str]) -> dict[str, Any]:
    """Return the sizes of a tiny language model."""
    return {
        "vocab_size": len(words), "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3,
        "initializer_range": 0.15,
    }  # fmt: skip


def llava_folder(folder: Path) -> Path:
    """Write a tiny random LLaVA of transformers with its processor."""
    tokenizer, words = vlm_tokenizer("<image>")
    LlavaProcessor(
        image_processor=CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}),
        tokenizer=tokenizer, patch_size=8, vision_feature_select_strategy="default", num_additional_image_tokens=1,
        image_token="<image>", chat_template=CHAT,
    ).save_pretrained(folder)  # fmt: skip
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(**clip_flant5_config()["vision_config"]),
        text_config=LlamaConfig(**llama_config(words)), image_token_index=words.index("<image>"), image_seq_length=16,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        LlavaForConditionalGeneration(config).save_pretrained(folder)
    return folder


def qwen2_vl_folder(folder: Path) -> Path:
    """Write a tiny random Qwen2-VL of transformers: patches in one long row, and as many tokens as an image needs."""
    image, video, start, end = "<|image_pad|>", "<|video_pad|>", "<|vision_start|>", "<|vision_end|>"
    tokenizer, words = vlm_tokenizer(image, video, start, end)
    sizes = {"patch_size": 8, "merge_size": 2, "temporal_patch_size": 2}
    Qwen2VLProcessor(
        image_processor=Qwen2VLImageProcessor(**sizes, min_pixels=16 * 16, max_pixels=64 * 64), tokenizer=tokenizer,
        video_processor=Qwen2VLVideoProcessor(**sizes),
        chat_template=CHAT.replace("<image>", f"{start}{image}{end}"),
    ).save_pretrained(folder)  # fmt: skip
    rope = {"rope_type": "default", "mrope_section": [1, 1, 2], "rope_theta": 10000.0}
    config = Qwen2VLConfig(
        text_config={**llama_config(words), "rope_parameters": rope},
        vision_config={
            "depth": 2, "embed_dim": 16, "hidden_size": 32, "num_heads": 2, "mlp_ratio": 2, "patch_size": 8,
            "spatial_merge_size": 2, "temporal_patch_size": 2, "initializer_range": 0.15,
        },
        image_token_id=words.index(image), video_token_id=words.index(video), vision_start_token_id=words.index(start),
        vision_end_token_id=words.index(end),
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        Qwen2VLForConditionalGeneration(config).save_pretrained(folder)
    return folder


def qwen3_vl_folder(folder: Path) -> Path:
    """Write a tiny random Qwen3-VL of transformers: the vision's middle layers reach the language model too."""
    image, video, start, end = "<|image_pad|>", "<|video_pad|>", "<|vision_start|>", "<|vision_end|>"
    tokenizer, words = vlm_tokenizer(image, video, start, end)
    sizes = {"patch_size": 8, "merge_size": 2, "temporal_patch_size": 2}
    Qwen3VLProcessor(
        image_processor=Qwen2VLImageProcessor(**sizes, min_pixels=16 * 16, max_pixels=64 * 64), tokenizer=tokenizer,
        video_processor=Qwen3VLVideoProcessor(**sizes),
        chat_template=CHAT.replace("<image>", f"{start}{image}{end}"),
    ).save_pretrained(folder)  # fmt: skip
    rope = {"rope_type": "default", "mrope_section": [2, 1, 1], "rope_theta": 10000.0, "mrope_interleaved": True}
    config = Qwen3VLConfig(
        text_config={**llama_config(words), "head_dim": 8, "rope_parameters": rope},
        vision_config={
            "depth": 2, "hidden_size": 16, "intermediate_size": 32, "out_hidden_size": 32, "num_heads": 2,
            "patch_size": 8, "spatial_merge_size": 2, "temporal_patch_size": 2, "num_position_embeddings": 64,
            "deepstack_visual_indexes": [0], "initializer_range": 0.15,
        },
        image_token_id=words.index(image), video_token_id=words.index(video), vision_start_token_id=words.index(start),
        vision_end_token_id=words.index(end),
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        Qwen3VLForConditionalGeneration(config).save_pretrained(folder)
    return folder


HPSV3_TOKENS = ("<pad>", "</s>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>", "<|im_start|>",
                "<|im_end|>")  # fmt: skip


def hpsv3_config() -> dict[str, Any]:
    """Return the ``config.json`` of the fixture's HPSv3, without what its files tell."""
    return {
        "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
        "num_key_value_heads": 2, "max_position_embeddings": 4096, "rms_norm_eps": 1e-6, "rope_theta": 1e6,
        "rope_scaling": {"type": "mrope", "mrope_section": [1, 1, 2]}, "bos_token_id": 0, "eos_token_id": 1,
        "vision_config": {
            "depth": 2, "embed_dim": 16, "hidden_size": 32, "num_heads": 2, "mlp_ratio": 4, "in_chans": 3,
            "patch_size": 14, "spatial_merge_size": 2, "temporal_patch_size": 2,
        },
    }  # fmt: skip


def hpsv3_folder(folder: Path) -> Path:
    """Write the fixture's HPSv3 with a tokenizer that knows its marks and some words."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file(fixture("hpsv3")[0], folder / "HPSv3.safetensors")
    (folder / "config.json").write_text(json.dumps(hpsv3_config()))
    words = [*HPSV3_TOKENS, "<unk>", *T5_WORDS[3:]]
    tokenizer = words_tokenizer([*words, *(f"word{number}" for number in range(79 - len(words)))])
    tokenizer.add_special_tokens(list(HPSV3_TOKENS))
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder
