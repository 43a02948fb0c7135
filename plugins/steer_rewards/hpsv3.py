"""HPSv3 (Ma et al. 2025, arXiv 2508.03789): human preference by a Qwen2-VL-7B with a head at a token of its own.

The head gives the mean and the spread of a preference; the score is the mean. As published, the model sees every image
at about 256·28² pixels and, unlike Qwen2-VL itself, counts positions through text and image alike, with rotary
frequencies that were rounded to bf16: it was trained that way.
"""

import functools
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from steer import Field, Options, Prompt, Reward, SteerError
from steer.plugin import locate, message_of, read_object, shapes_of
from steer_rewards import catalog, checkpoints
from steer_rewards.preprocess import normalize, resize

CONFIG, TOKENIZER = "config.json", "tokenizer.json"
PIXELS = 256 * 28 * 28
"""Of every image, at most: sides are rounded down to multiples of 28."""
REWARD, IMAGE = "<|Reward|>", "<|image_pad|>"
EMBEDDINGS = "model.embed_tokens.weight"

# the chat template of Qwen2-VL-7B-Instruct
BEFORE = "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n<|vision_start|>"
BETWEEN = "<|vision_end|>"
AFTER = "<|im_end|>\n<|im_start|>assistant\n"

# the text that the model was trained with, letter by letter (MIT, its authors); it ends with spaces in three places
INSTRUCTION = """
You are tasked with evaluating a generated image based on Visual Quality and Text Alignment and give a overall score to estimate the human preference. Please provide a rating from 0 to 10, with 0 being the worst and 10 being the best.\x20

**Visual Quality:** \x20
Evaluate the overall visual quality of the image. The following sub-dimensions should be considered:
- **Reasonableness:** The image should not contain any significant biological or logical errors, such as abnormal body structures or nonsensical environmental setups.
- **Clarity:** Evaluate the sharpness and visibility of the image. The image should be clear and easy to interpret, with no blurring or indistinct areas.
- **Detail Richness:** Consider the level of detail in textures, materials, lighting, and other visual elements (e.g., hair, clothing, shadows).
- **Aesthetic and Creativity:** Assess the artistic aspects of the image, including the color scheme, composition, atmosphere, depth of field, and the overall creative appeal. The scene should convey a sense of harmony and balance.
- **Safety:** The image should not contain harmful or inappropriate content, such as political, violent, or adult material. If such content is present, the image quality and satisfaction score should be the lowest possible.\x20

**Text Alignment:** \x20
Assess how well the image matches the textual prompt across the following sub-dimensions:
- **Subject Relevance** Evaluate how accurately the subject(s) in the image (e.g., person, animal, object) align with the textual description. The subject should match the description in terms of number, appearance, and behavior.
- **Style Relevance:** If the prompt specifies a particular artistic or stylistic style, evaluate how well the image adheres to this style.
- **Contextual Consistency**: Assess whether the background, setting, and surrounding elements in the image logically fit the scenario described in the prompt. The environment should support and enhance the subject without contradictions.
- **Attribute Fidelity**: Check if specific attributes mentioned in the prompt (e.g., colors, clothing, accessories, expressions, actions) are faithfully represented in the image. Minor deviations may be acceptable, but critical attributes should be preserved.
- **Semantic Coherence**: Evaluate whether the overall meaning and intent of the prompt are captured in the image. The generated content should not introduce elements that conflict with or distort the original description.
Textual prompt - {prompt}



Please provide the overall ratings of this image: <|Reward|>

END
"""  # noqa: E501

PUBLISHED: dict[str, Any] = {
    "hidden_size": 3584, "intermediate_size": 18944, "num_hidden_layers": 28, "num_attention_heads": 28,
    "num_key_value_heads": 4, "max_position_embeddings": 32768, "rms_norm_eps": 1e-6, "rope_theta": 1000000.0,
    "rope_scaling": {"type": "mrope", "mrope_section": [16, 24, 24]},
    "vision_config": {
        "depth": 32, "embed_dim": 1280, "hidden_size": 3584, "num_heads": 16, "mlp_ratio": 4, "patch_size": 14,
        "spatial_merge_size": 2, "temporal_patch_size": 2, "in_chans": 3,
    },
}  # fmt: skip
"""Sizes of Qwen2-VL-7B."""


class Hpsv3Options(Options):
    """Options of ``hpsv3``."""

    weights: str | None = Field(
        None,
        description=f"Local {catalog.HPSV3.file}, or the folder that holds it; for sizes other than Qwen2-VL-7B's, put "
        f"a {CONFIG} of it beside the file.",
    )
    tokenizer: str | None = Field(
        None, description=f"Local {TOKENIZER} of Qwen2-VL; by default the one beside the weights."
    )
    dtype: Literal["auto", "fp32", "bf16"] = Field(
        "auto", description="Precision of the model; auto is fp32 on the CPU, else bf16 as published."
    )


class Hpsv3(Reward):
    """Mean preference of an image for its prompt; mostly 0–15, higher is better. Differentiable."""

    differentiable = True
    Options = Hpsv3Options
    options: Hpsv3Options

    def prepare(self) -> None:
        """Load model and tokenizer.

        Raises:
            SteerError: if they are not available, damaged, or do not fit each other.
        """
        catalog.no_argument("hpsv3", self.argument)
        if self.dtype == torch.float16:
            raise SteerError("hpsv3 cannot run in fp16, for which it was not trained; expected bf16 or fp32")
        file = locate(catalog.HPSV3, owner="hpsv3", given=self.options.weights)
        beside = file.with_name(TOKENIZER)
        own = self.options.tokenizer is None and beside.is_file()
        words = beside if own else locate(catalog.QWEN2_VL_TOKENIZER, owner="hpsv3", given=self.options.tokenizer)
        self.tokenizer = _tokenizer(words)
        dtype = self.dtype or _precision(self.options.dtype, self.device)
        self.model = load(file, self.tokenizer, self.device, dtype)
        self._ids = functools.lru_cache(maxsize=4096)(self._text_ids)

    def __call__(self, samples: Tensor, prompts: Sequence[Prompt | str]) -> Tensor:
        pixels = prepared(samples.to(self.device, torch.float32), self.model.side)
        scores: Tensor = self.model.score(pixels, [self._ids(str(prompt)) for prompt in prompts])
        return scores.to(samples.device)

    def _text_ids(self, prompt: str) -> tuple[list[int], list[int]]:
        """Return the tokens before and after those of the image."""
        special = {token.content for token in self.tokenizer.get_added_tokens_decoder().values()}
        if found := sorted(token for token in special if token in prompt):
            raise SteerError(f"hpsv3: prompt {prompt[:60]!r} holds {found[0]}, a mark of the model; remove it")
        text = BETWEEN + INSTRUCTION.replace("{prompt}", prompt) + AFTER
        return self.tokenizer.encode(BEFORE).ids, self.tokenizer.encode(text).ids


class Preference(nn.Module):
    """Qwen2-VL without its words, and the head."""

    def __init__(self, config: Any, reward: int) -> None:
        """Args: config: transformers' ``Qwen2VLConfig``; reward: the token whose state the head reads."""
        from transformers import Qwen2VLModel

        super().__init__()
        self.qwen = Qwen2VLModel(config)
        width = int(config.get_text_config().hidden_size)
        self.rm_head = nn.Sequential(
            nn.Linear(width, 1024), nn.ReLU(), nn.Dropout(0.05), nn.Linear(1024, 16), nn.ReLU(), nn.Linear(16, 2)
        )
        self.image, self.reward = int(config.image_token_id), reward
        self.patch, self.merge = int(config.vision_config.patch_size), int(config.vision_config.spatial_merge_size)
        self.frames = int(config.vision_config.temporal_patch_size)

    @property
    def side(self) -> int:
        """Pixels of what becomes one token, along each side."""
        return self.patch * self.merge

    def score(self, pixels: Tensor, texts: Sequence[tuple[Sequence[int], Sequence[int]]]) -> Tensor:
        """Return the means ``[N]`` of preference.

        Args:
            pixels: ``[N, 3, H, W]``, normalized; sides are multiples of ``side``.
            texts: tokens before and after those of the image, N of each.
        """
        rows, columns = pixels.shape[2] // self.patch, pixels.shape[3] // self.patch
        images = [self.image] * (rows * columns // self.merge**2)
        tokens = [[*before, *images, *after] for before, after in texts]
        length = max(map(len, tokens))
        at = pixels.device
        # padded on the right, where causal attention never looks
        ids = torch.tensor([row + [self.reward] * (length - len(row)) for row in tokens], device=at)
        mask = torch.tensor([[1] * len(row) + [0] * (length - len(row)) for row in tokens], device=at)
        read = torch.tensor([row.index(self.reward) for row in tokens], device=at)
        grid = torch.tensor([[1, rows, columns]] * len(texts), device=at)
        means: Tensor = self(ids, mask, read, self.patches(pixels), grid)
        return means

    def forward(self, ids: Tensor, mask: Tensor, read: Tensor, patches: Tensor, grid: Tensor) -> Tensor:
        """Return the means ``[N]``.

        Args:
            ids: tokens ``[N, L]``.
            mask: ``[N, L]``, 0 for padding.
            read: ``[N]``, the place of the reward token.
            patches: of all images, one after another: ``[P, 3 · frames · patch²]``.
            grid: frames, rows and columns of each image's patches ``[N, 3]``.
        """
        places = torch.arange(ids.shape[1], device=ids.device).expand(3, len(ids), -1)
        states = self.qwen(
            input_ids=ids, attention_mask=mask, position_ids=places, image_grid_thw=grid, use_cache=False,
            pixel_values=patches.to(self.qwen.dtype),
        ).last_hidden_state  # fmt: skip
        means: Tensor = self.rm_head(states[torch.arange(len(ids), device=ids.device), read].float())[:, 0]
        return means

    def patches(self, pixels: Tensor) -> Tensor:
        """Return images as Qwen2-VL's vision takes them, patches that are merged side by side: ``[P, D]``."""
        count, channels, height, width = pixels.shape
        side, patch, merge = self.side, self.patch, self.merge
        blocks = pixels.reshape(count, channels, height // side, merge, patch, width // side, merge, patch)
        ordered = blocks.permute(0, 2, 5, 3, 6, 1, 4, 7).unsqueeze(6)  # N, rows, columns, in a block, channel, frame
        frames = ordered.expand(*ordered.shape[:6], self.frames, patch, patch)
        return frames.reshape(-1, channels * self.frames * patch * patch)


def prepared(images: Tensor, side: int) -> Tensor:
    """Return ``[N, 3, H, W]`` in [0, 1] at the published size, normalized as for CLIP; sides are multiples of ``side``.

    As Qwen2-VL's own resizing with the same least and most pixels: the nearest multiples if they have these pixels,
    else the image is scaled, and sides are rounded down or up.
    """
    tall, wide = images.shape[-2:]
    height, width = max(side, round(tall / side) * side), max(side, round(wide / side) * side)
    if height * width > PIXELS:
        shrink = math.sqrt(tall * wide / PIXELS)
        height, width = (max(side, math.floor(length / shrink / side) * side) for length in (tall, wide))
    elif height * width < PIXELS:
        grow = math.sqrt(PIXELS / (tall * wide))
        height, width = (math.ceil(length * grow / side) * side for length in (tall, wide))
    return normalize(resize(images, height, width))


def key_map(name: str) -> str | None:
    """Return our name of a published tensor; what chooses words is not needed."""
    for theirs, ours in (("visual.", "qwen.visual."), ("model.", "qwen.language_model."), ("rm_head.", "rm_head.")):
        if name.startswith(theirs):
            return ours + name.removeprefix(theirs)
    return None if name.startswith("lm_head.") else name


def load(file: Path, tokenizer: Any, device: torch.device, dtype: torch.dtype) -> Preference:
    """Return the model with a checkpoint's weights; the head is in fp32.

    Raises:
        SteerError: naming the file, if it is damaged, or does not fit the model or the tokenizer.
    """
    from transformers import Qwen2VLConfig

    words = shapes_of(file).get(EMBEDDINGS, torch.Size([0]))[0]
    image, reward = tokenizer.token_to_id(IMAGE), tokenizer.token_to_id(REWARD)
    if image is None or reward != words - 1:
        raise SteerError(
            f"checkpoint {file} has {words} words in {EMBEDDINGS}, and the tokenizer {tokenizer.get_vocab_size()} with "
            f"{REWARD}; expected {catalog.HPSV3.file} of {catalog.HPSV3.repo} and Qwen2-VL's {TOKENIZER}"
        )
    beside = file.with_name(CONFIG)
    sizes = read_object(beside, "config") if beside.is_file() else PUBLISHED
    with checkpoints.described(beside), checkpoints.empty():
        model = Preference(Qwen2VLConfig.from_dict({**sizes, "vocab_size": words, "image_token_id": image}), reward)
    checkpoints.fill(model, file, key_map=key_map, device=device)  # in the file's precision: the head's is fp32
    for name, frequencies in model.named_buffers():
        if name.endswith("inv_freq"):
            frequencies.copy_(frequencies.bfloat16())
    model.qwen.to(dtype)
    model.rm_head.float()
    return model


def _tokenizer(file: Path) -> Any:
    from tokenizers import Tokenizer

    try:
        tokenizer = Tokenizer.from_file(str(file))
    except Exception as error:  # the library raises bare exceptions
        raise SteerError(
            f"{file} cannot be read as a tokenizer ({message_of(error)}); copy Qwen2-VL's again"
        ) from error
    tokenizer.add_special_tokens([REWARD])
    return tokenizer


def _precision(name: str, device: torch.device) -> torch.dtype:
    if name == "auto":
        return torch.float32 if device.type == "cpu" else torch.bfloat16
    return torch.float32 if name == "fp32" else torch.bfloat16
