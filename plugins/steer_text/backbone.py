"""Any masked language model of transformers as a backbone: masked diffusion continues a prefix."""

import re
from collections.abc import Hashable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any, ClassVar

import torch
from torch import Tensor

from steer import Prompt, SteerError
from steer.plugin import Backbone, Conditioning, Encoded, Process, Streams, Texts
from steer_text import mdlm
from steer_text.checkpoints import known, load, longest
from steer_text.process import MaskedDiffusion
from steer_text.trail import TokenTrail

NEW_TOKENS = 1
"""Least number of tokens that a prefix must leave room for."""
USUAL = 256
"""Most tokens of a text if the user sets no length: some models take thousands, some tokenizers have no limit."""


class TextBackbone(Backbone):
    """Base of the text models: no image sizes, no guidance, and traces that show the tokens of each step."""

    modality: ClassVar[str] = "text"
    default_guidance = 1.0
    noisy: ClassVar[Mapping[str, Any]] = {"temperature": 1.0}

    tokenizer: Any

    def guided(self, guidance_scale: float) -> bool:
        return False

    def latent_shape(self, width: int | None, height: int | None) -> tuple[int, ...]:
        raise SteerError("a text has no size in pixels; give --length")

    def pixels(self, shape: tuple[int, ...]) -> tuple[int, int]:
        return shape[-1], 1

    def noise(self, streams: Streams, shape: tuple[int, ...]) -> Tensor:
        """Return zeros: a text begins fully masked, so transitions use the first numbers of a stream."""
        return torch.zeros(len(streams), *shape, device=self.device)

    def observers(self) -> Sequence[object]:
        return (TokenTrail(self.pieces),)

    def pieces(self, x: Tensor) -> list[list[str | None]]:
        """Return the tokens of rows ``x [B, L]`` as text, ``None`` for masked ones, cut at the end token."""
        raise NotImplementedError


class MaskedLM(TextBackbone):
    """A ``transformers`` masked language model with its tokenizer.

    Prompts are prefixes: their tokens come first and do not change. An ellipsis at the end of a prompt is removed, so
    ``...`` alone is an empty prefix. A mask token in a prompt is filled in like the rest. All particles have the same
    length, including the prefix; a text ends at the end token, if the model has one.
    """

    default_steps = 32

    def __init__(self, model: torch.nn.Module, tokenizer: Any, *, device: torch.device | str = "cpu") -> None:
        """Wrap a model whose forward pass returns ``logits [B, L, V]`` for ``input_ids [B, L]``.

        Raises:
            SteerError: if the tokenizer has no mask token.
        """
        if tokenizer.mask_token_id is None:
            raise SteerError("the model's tokenizer has no mask token: it is not a masked language model")
        super().__init__(SimpleNamespace(scheduler=None, _execution_device=torch.device(device), components={}), model)
        self.tokenizer = tokenizer
        self.longest = longest(model, tokenizer)
        ends = (tokenizer.eos_token_id, tokenizer.sep_token_id)
        self.end: int | None = next((token for token in ends if token is not None), None)
        starts = (tokenizer.bos_token_id, tokenizer.cls_token_id)
        self.start: int | None = next((token for token in starts if token is not None), None)
        # special tokens other than end and padding are never drawn
        kept = {self.end, tokenizer.pad_token_id}
        self.never = sorted(set(tokenizer.all_special_ids) - kept)

    def conditioned_on(self, prompt: Prompt) -> tuple[Hashable, ...]:
        return ()

    def encode_one(self, prompt: Prompt, negative: str | None) -> Encoded:
        ids = self.tokenizer(prefix_of(prompt), add_special_tokens=False).input_ids
        special = set(self.tokenizer.all_special_ids) - {self.tokenizer.mask_token_id, self.tokenizer.unk_token_id}
        if odd := [token for token in ids if token in special]:
            raise SteerError(
                f"prompt {str(prompt)[:60]!r}: {self.tokenizer.convert_ids_to_tokens(odd[0])} is not allowed; "
                f"the only special token that a prompt takes is {self.tokenizer.mask_token}"
            )
        if self.start is not None:
            ids = [self.start, *ids]
        unknown = self.tokenizer.unk_token_id
        if unknown is not None and unknown in ids:
            words = [word for word in str(prompt).split() if unknown in self.tokenizer(word).input_ids]
            raise SteerError(f"prompt {str(prompt)[:60]!r}: the model does not know {', '.join(words[:3])!r}")
        if len(ids) + NEW_TOKENS > self.longest:
            raise SteerError(
                f"prompt {str(prompt)[:60]!r} has {len(ids)} tokens, but the model's texts have at most {self.longest} "
                "including it; shorten it"
            )
        prefix = torch.tensor([ids], dtype=torch.int64, device=self.device)
        return {"prefix": prefix, "prefix_length": torch.tensor([len(ids)], device=self.device)}, None

    def shape(self, settings: Mapping[str, Any]) -> tuple[int, ...]:
        length = settings["length"] or min(self.longest, USUAL)
        if length > self.longest:
            raise SteerError(f"length={length}: this model's texts have at most {self.longest} tokens")
        return (length,)

    def process(self, settings: Mapping[str, Any], shape: tuple[int, ...]) -> Process:
        if settings["scheduler"] not in (None, "ancestral"):
            raise SteerError(f"scheduler {settings['scheduler']!r}: masked diffusion has only ancestral")
        temperature = 1.0 if settings["temperature"] is None else float(settings["temperature"])
        return MaskedDiffusion(settings["steps"], self.tokenizer.mask_token_id, temperature=temperature)

    def initial(self, noise: Tensor, conditioning: Conditioning) -> Tensor:
        prefix, lengths = conditioning.cond["prefix"], conditioning.cond["prefix_length"]
        longest, room = int(lengths.max()), noise.shape[1]
        if longest + NEW_TOKENS > room:
            raise SteerError(f"a prompt has {longest} tokens, and length={room} includes them; raise --length")
        prefix = torch.nn.functional.pad(prefix[:, :longest], (0, room - longest))
        given = torch.arange(room, device=noise.device) < lengths[:, None]
        return torch.where(given, prefix, noise)

    def predict(self, denoiser: str, x: Tensor, timestep: Tensor, conditioning: Conditioning) -> Tensor:
        network: Any = self.denoisers[denoiser]
        logits: Tensor = network(input_ids=x).logits.float()
        logits[..., self.never] = float("-inf")
        return logits

    def decode(self, x: Tensor) -> Texts:
        rows = [self._until_end(row) for row in x.tolist()]
        return Texts(self.tokenizer.batch_decode(rows, skip_special_tokens=True))

    def pieces(self, x: Tensor) -> list[list[str | None]]:
        mask = self.tokenizer.mask_token_id
        return [
            [None if token == mask else self._piece(token) for token in self._until_end(row)[self.start is not None :]]
            for row in x.tolist()
        ]

    def _piece(self, token: int) -> str:
        if token == self.tokenizer.pad_token_id:
            return ""
        return str(self.tokenizer.convert_tokens_to_string([self.tokenizer.convert_ids_to_tokens(token)]))

    def _until_end(self, row: list[int]) -> list[int]:
        """Cut a row at its first end token; the first token does not count, because it begins the text."""
        for place, token in enumerate(row[1:], 1):
            if token == self.end:
                return row[:place]
        return row


def prefix_of(prompt: str) -> str:
    """Return a prompt without the ellipsis at its end."""
    return re.sub(r"\s*(\.\.\.|…)\s*$", "", prompt)


def from_name(name: str, device: torch.device, dtype: torch.dtype) -> MaskedLM:
    """Load ``text:NAME``: a shipped model, a transformers folder, or a hub id.

    Raises:
        SteerError: if it is none of these, cannot be fetched, or is not a masked language model.
    """
    source, what = str(known().get(name, name)), f"model 'text:{name}'"
    config = mdlm.config_of(source)
    if config is not None:
        model, tokenizer = mdlm.load(source, config, what)
    else:
        model, tokenizer = load("AutoModelForMaskedLM", source, what, known())
    return MaskedLM(model.to(device, dtype), tokenizer, device=device)
