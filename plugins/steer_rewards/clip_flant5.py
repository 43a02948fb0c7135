"""CLIP-FlanT5 (Lin et al. 2024, arXiv 2404.01291): Flan-T5 that reads images as projected CLIP patches."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from steer import SteerError
from steer.plugin import read_object
from steer_rewards import checkpoints
from steer_rewards.preprocess import CLIP_MEAN, normalize, pad_square, resize

CONFIG = "config.json"
QUESTION = 'Does this figure show "{}"? Please answer yes or no.'
ANSWER = "Yes"

_BEFORE = (
    "A chat between a curious user and an artificial intelligence assistant. The assistant gives helpful, detailed, "
    "and polite answers to the user's questions. USER: "
)
_AFTER = "\n{} ASSISTANT: "
_BORDER = tuple(int(255 * value) / 255 for value in CLIP_MEAN)
_CLIP_L_336 = {
    "hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16,
    "image_size": 336, "patch_size": 14,
}  # fmt: skip
_TIED = {"t5.encoder.embed_tokens.weight": "t5.shared.weight", "t5.decoder.embed_tokens.weight": "t5.shared.weight"}
_TOWER = "vision_tower.vision_tower.vision_model."


class ClipFlanT5Model(nn.Module):
    """From pixels and tokens around the image to the probability of an answer."""

    def __init__(self, t5: Any, vision: Any) -> None:
        """Args: t5: a ``T5Config``; vision: a ``CLIPVisionConfig`` of transformers."""
        from transformers import CLIPVisionModel, T5ForConditionalGeneration

        super().__init__()
        self.t5 = T5ForConditionalGeneration(t5)
        self.vision = CLIPVisionModel(vision)
        self.projector = nn.Sequential(
            nn.Linear(vision.hidden_size, t5.d_model), nn.GELU(), nn.Linear(t5.d_model, t5.d_model)
        )

    def forward(
        self, pixels: Tensor, before: Tensor, after: Tensor, mask: Tensor, answer: Tensor, words: int
    ) -> Tensor:
        """Return exp(−mean cross entropy) of the answer's tokens: ``[N]`` in 0…1, fp32.

        Args:
            pixels: ``[N, 3, H, W]``, normalized.
            before: tokens ``[N, A]`` before the image.
            after: tokens ``[N, B]`` after the image.
            mask: ``[N, B]``, 0 where ``after`` is padding, else 1.
            answer: the answer's tokens ``[T]``.
            words: size of the tokenizer's vocabulary; T5's rows beyond it are left out of the probability.
        """
        hidden = self.vision(pixel_values=pixels, output_hidden_states=True).hidden_states[-2]
        image = self.projector(hidden[:, 1:].to(self.projector[0].weight.dtype))
        embed = self.t5.get_input_embeddings()
        inputs = torch.cat([embed(before), image, embed(after)], dim=1)
        seen = mask.new_ones(len(mask), before.shape[1] + image.shape[1])
        labels = answer.expand(len(pixels), -1)
        start = torch.full_like(
            labels[:, :1], self.t5.config.decoder_start_token_id or 0
        )  # T5 begins with its padding token
        logits = self.t5(
            inputs_embeds=inputs, attention_mask=torch.cat([seen, mask], dim=1),
            decoder_input_ids=torch.cat([start, labels[:, :-1]], dim=1), use_cache=False,
        ).logits  # fmt: skip
        losses = functional.cross_entropy(logits[..., :words].float().transpose(1, 2), labels, reduction="none")
        return losses.mean(dim=1).neg().exp()


class Text:
    """Tokens of the question, as in the reference: the texts before and after the image both end in ``</s>``."""

    def __init__(self, tokenizer: Path, eos: int) -> None:
        """Read a ``tokenizer.json`` of Flan-T5.

        Raises:
            SteerError: if the file is not a tokenizer, or does not end a text with the model's end token.
        """
        from tokenizers import Tokenizer

        try:
            self._tokenizer = Tokenizer.from_file(str(tokenizer))
        except Exception as error:  # the library raises bare exceptions
            raise SteerError(f"{tokenizer} is not a tokenizer.json ({error}); expected Flan-T5's") from error
        self.words = int(self._tokenizer.get_vocab_size())
        self.answer = self._ids(ANSWER)
        unknown = self._tokenizer.token_to_id("<unk>")
        if len(self.answer) != 2 or self.answer[1] != eos or self.answer[0] == unknown:
            raise SteerError(
                f"{tokenizer} turns {ANSWER!r} into {self.answer}, expected one word and the end token {eos}; it is "
                "not Flan-T5's"
            )
        self.before = self._ids(_BEFORE)
        self._tokenizer.enable_padding()

    def _ids(self, text: str) -> list[int]:
        return [int(token) for token in self._tokenizer.encode(text).ids]

    def after(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Return the tokens after the image and their mask, ``[N, B]`` each."""
        rows = self._tokenizer.encode_batch([_AFTER.format(QUESTION.format(text)) for text in texts])
        return torch.tensor([row.ids for row in rows]), torch.tensor([row.attention_mask for row in rows])


class ClipFlanT5:
    """The model with its preprocessing: images and texts in, P("Yes") out."""

    differentiable = True

    def __init__(self, folder: Path, tokenizer: Path, device: torch.device, dtype: torch.dtype) -> None:
        """Load from a folder with ``config.json`` and weights.

        Raises:
            SteerError: if a file is damaged or does not fit.
        """
        self.device, self.dtype = device, dtype
        self.model = load(folder, device, dtype)
        self.text = Text(tokenizer, int(self.model.t5.config.eos_token_id))
        rows = int(self.model.t5.config.vocab_size)
        if self.text.words > rows:
            raise SteerError(f"{tokenizer} has {self.text.words} words, but the model in {folder} has {rows}")
        self.size = int(self.model.vision.config.image_size)
        self._before = torch.tensor([self.text.before], device=device)
        self._answer = torch.tensor(self.text.answer, device=device)

    def score(self, samples: Tensor, texts: Sequence[str]) -> Tensor:
        """Return ``[N]`` for images ``[N, 3, H, W]`` in [0, 1]."""
        pixels = self.pixels(samples).to(self.dtype)
        after, mask = self.text.after(texts)
        before = self._before.expand(len(texts), -1)
        scores: Tensor = self.model(
            pixels, before, after.to(self.device), mask.to(self.device), self._answer, self.text.words
        )
        return scores

    def pixels(self, samples: Tensor) -> Tensor:
        """Return the model's input for images, padded to a square: ``[N, 3, size, size]`` in fp32."""
        square = pad_square(samples.to(self.device, torch.float32), _BORDER)
        return normalize(resize(square, self.size, self.size))


def is_clip_flant5(folder: Path) -> bool:
    """Whether a folder holds a CLIP-FlanT5, according to its ``config.json``."""
    file = folder / CONFIG
    return file.is_file() and {"mm_hidden_size", "d_model"} <= read_object(file, "config").keys()


def key_map(name: str) -> str | None:
    """Return the model's name of a tensor of a CLIP-FlanT5 checkpoint."""
    if name == "embed_tokens.weight" or name.endswith("position_ids"):  # a copy of T5's embedding
        return None
    if name.startswith(_TOWER):
        return "vision." + name.removeprefix(_TOWER)
    if name.startswith("mm_projector."):
        return "projector." + name.removeprefix("mm_projector.")
    return f"t5.{name}"


def build(config: dict[str, Any]) -> ClipFlanT5Model:
    """Return the model without weights, given the object in ``config.json``.

    Its ``vision_config`` (of ``CLIPVisionConfig``) describes vision towers other than CLIP ViT-L/14 at 336 pixels.
    """
    from transformers import CLIPVisionConfig, T5Config

    t5 = T5Config.from_dict({key: value for key, value in config.items() if key not in {"vision_config", "model_type"}})
    vision = CLIPVisionConfig.from_dict({"hidden_act": "quick_gelu", **_CLIP_L_336, **config.get("vision_config", {})})
    with checkpoints.empty():
        return ClipFlanT5Model(t5, vision)


def load(folder: Path, device: torch.device, dtype: torch.dtype) -> ClipFlanT5Model:
    """Return the model with its weights.

    Raises:
        SteerError: naming the file, if it is damaged or does not fit the model.
    """
    with checkpoints.described(folder / CONFIG):
        model = build(read_object(folder / CONFIG, "config"))
    prefix = "vision_model." if any(name.startswith("vision_model.") for name in model.vision.state_dict()) else ""

    def names(name: str) -> str | None:  # transformers 4 has one more level in the vision tower
        new = key_map(name)
        return new if new is None or not new.startswith("vision.") else f"vision.{prefix}{new.removeprefix('vision.')}"

    # assigned tensor by tensor, because the checkpoint's head is not tied to the embedding, as transformers builds it
    checkpoints.fill(model, checkpoints.of_folder(folder), key_map=names, tied=_TIED, dtype=dtype, device=device)
    return model
