"""BLIP-VQA: the probability that the answer to a question about an image is yes. The base of ``da`` and ``bvqa``."""

import functools
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from steer import Field, Options, Prompt, Reward, SteerError
from steer.plugin import locate
from steer_rewards import blip, catalog, checkpoints
from steer_rewards.embedding import GRADIENT_SCALE, PRECISION, Precision, precision, scale_gradient
from steer_rewards.preprocess import normalize, resize
from steer_rewards.questions import given_questions

SIZE = 480
PAIRS = 64
"""Pairs of image and question per forward pass, at most."""

TIED = {
    "text_decoder.cls.predictions.decoder.weight": "text_decoder.bert.embeddings.word_embeddings.weight",
    "text_decoder.cls.predictions.decoder.bias": "text_decoder.cls.predictions.bias",
    "text_decoder.cls.predictions.bias": "text_decoder.cls.predictions.decoder.bias",
}

_loaded: weakref.WeakValueDictionary[tuple[Path, str, torch.dtype], Any] = weakref.WeakValueDictionary()


class BlipVqaOptions(Options):
    """Options of ``da`` and ``bvqa``."""

    weights: str | None = Field(
        None,
        description=f"Local {catalog.BLIP_VQA.file}, or the folder that holds it; for sizes other than ViT-B's at 480 "
        f"pixels, put a {blip.CONFIG} of transformers' BlipConfig beside it.",
    )
    vocabulary: str | None = Field(
        None, description=f"Local {blip.VOCABULARY} of bert-base-uncased; by default the one beside the weights."
    )
    dtype: Precision = Field("auto", description=PRECISION)


class BlipVqa(Reward):
    """Asks BLIP yes-no questions about an image. Differentiable.

    A subclass defines the questions for a prompt without its own, and how to combine the answers.
    """

    differentiable = True
    Options = BlipVqaOptions
    options: BlipVqaOptions
    name: ClassVar[str]

    def prepare(self) -> None:
        """Load BLIP's own checkpoint, or with ``da:ORG/MODEL`` or ``da:FOLDER`` one in transformers' format."""
        file = _weights(self.name, self.argument, self.options.weights)
        self.precision = self.dtype or precision(self.options.dtype, self.device)
        self.model = load(file, self.device, self.precision)
        self.size = int(self.model.config.vision_config.image_size)
        vocabulary = blip.vocabulary(self.name, self.options.vocabulary, file)
        self.tokenizer = blip.Tokenizer(vocabulary, int(self.model.config.text_config.vocab_size), self.name)
        self._parse = functools.lru_cache(maxsize=4096)(self.parse)
        self._ids = functools.lru_cache(maxsize=4096)(self._question_ids)

    def __call__(self, samples: Tensor, prompts: Sequence[Prompt | str]) -> Tensor:
        """Score images ``[N, 3, H, W]`` in [0, 1] against the questions of their prompts."""
        asked = [self.questions(prompt) for prompt in prompts]
        scale = GRADIENT_SCALE if self.precision == torch.float16 else 1.0
        images = self.embed(samples)
        rows = [row for row, questions in enumerate(asked) for _ in questions]
        logits = self.answers(images, rows, [question for questions in asked for question in questions])
        parts = scale_gradient(logits, scale).split([len(questions) for questions in asked])
        return torch.stack([self.combine(part) for part in parts]).to(samples.device)

    def questions(self, prompt: Prompt | str) -> list[str]:
        """Return the questions of a prompt: its own, else those parsed from its text.

        Raises:
            SteerError: if the prompt's metadata holds questions of a wrong type.
        """
        given = given_questions(prompt)
        return list(self._parse(str(prompt))) if given is None else given

    def parse(self, text: str) -> list[str]:
        """Return the questions for a prompt that has none of its own."""
        raise NotImplementedError

    def combine(self, logits: Tensor) -> Tensor:
        """Combine the answers ``[Q, vocabulary]`` to the Q questions about an image into one score, in fp32."""
        raise NotImplementedError

    def embed(self, samples: Tensor) -> Tensor:
        """Return BLIP's embeddings of images: ``[N, patches + 1, D]``."""
        scale = 1 / GRADIENT_SCALE if self.precision == torch.float16 else 1.0
        pixels = scale_gradient(self.pixels(samples), scale).to(self.precision)
        embedded: Tensor = self.model.vision_model(pixel_values=pixels).last_hidden_state
        return embedded

    def pixels(self, samples: Tensor) -> Tensor:
        """Return the model's input for images of any shape: ``[N, 3, size, size]`` in fp32."""
        return normalize(resize(samples.to(self.device, torch.float32), self.size, self.size))

    def answers(self, images: Tensor, rows: Sequence[int], questions: Sequence[str]) -> Tensor:
        """Return the logits ``[P, vocabulary]`` of the first word of each answer, in fp32.

        Args:
            images: ``[N, patches + 1, D]``.
            rows: the image index of each of the P questions.
            questions: P texts.
        """
        ids = [self._ids(question) for question in questions]
        # The answer's cross attention ignores the mask of a padded question, so a batch needs equal lengths.
        order = sorted(range(len(ids)), key=lambda pair: len(ids[pair]))
        parts = []
        for pairs in _groups(order, [len(question) for question in ids]):
            which = torch.tensor([rows[pair] for pair in pairs], device=images.device)
            tokens = torch.tensor([ids[pair] for pair in pairs], device=images.device)
            parts.append(first_word(self.model, images[which], tokens, self.tokenizer.answer_start))
        back = torch.empty(len(order), dtype=torch.long)
        back[torch.tensor(order)] = torch.arange(len(order))
        return torch.cat(parts)[back.to(images.device)].float()

    def _question_ids(self, question: str) -> list[int]:
        return [self.tokenizer.question_start, *self.tokenizer.ids(question)[1:]]


def first_word(model: Any, images: Tensor, questions: Tensor, answer_start: int) -> Tensor:
    """Return the logits ``[P, vocabulary]`` of the first word of an answer.

    Args:
        model: transformers' ``BlipForQuestionAnswering``.
        images: embedded images ``[P, patches + 1, D]``.
        questions: tokens ``[P, L]`` without padding; the first is BLIP's ``[ENC]``.
        answer_start: BLIP's ``[DEC]``, which begins an answer.
    """
    states = model.text_encoder(input_ids=questions, encoder_hidden_states=images).last_hidden_state
    start = torch.full((len(questions), 1), answer_start, device=questions.device)
    logits: Tensor = model.text_decoder(input_ids=start, encoder_hidden_states=states, use_cache=False).logits
    return logits[:, 0]


def _groups(order: Sequence[int], lengths: Sequence[int]) -> list[list[int]]:
    """Split indices that are sorted by length into groups of equal length, with at most ``PAIRS`` each."""
    groups: list[list[int]] = []
    for pair in order:
        if groups and len(groups[-1]) < PAIRS and lengths[groups[-1][0]] == lengths[pair]:
            groups[-1].append(pair)
        else:
            groups.append([pair])
    return groups


def _weights(owner: str, argument: str | None, given: str | None) -> Path:
    if argument is not None and Path(argument).expanduser().is_dir():
        if given is not None:
            raise SteerError(f"got both {owner}:{argument} and -o {owner}.weights={given}; give one of the two")
        return checkpoints.of_folder(Path(argument).expanduser())
    needed = catalog.blip_vqa(argument)[0]
    path = locate(needed, owner=owner if argument is None else f"{owner}:{argument}", given=given)
    return checkpoints.of_folder(path) if path.is_dir() else path


def key_map(name: str) -> str | None:
    """Return transformers' name of a tensor of ``model_base_vqa_capfilt_large.pth``; converted names are unchanged."""
    if name.endswith("position_ids"):
        return None
    if name.startswith("visual_encoder."):
        return "vision_model." + blip.vision_name(name.removeprefix("visual_encoder."))
    return name


def build(sizes: Any) -> Any:
    """Return transformers' ``BlipForQuestionAnswering`` without weights."""
    from transformers import BlipForQuestionAnswering

    with checkpoints.empty():
        return BlipForQuestionAnswering(sizes)


def load(file: Path, device: torch.device, dtype: torch.dtype) -> Any:
    """Return the model with a checkpoint's weights; a model that is already in use is shared.

    Raises:
        SteerError: naming the file, if it is damaged or does not fit the model.
    """
    place = file.resolve(), str(device), dtype
    model = _loaded.get(place)
    if model is None:
        with checkpoints.described(file.with_name(blip.CONFIG)):
            model = build(blip.config("base", SIZE, file.with_name(blip.CONFIG)))
        checkpoints.fill(model, file, key="model", key_map=key_map, tied=TIED, dtype=dtype, device=device)
        _loaded[place] = model
    return model
