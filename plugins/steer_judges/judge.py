"""``Judge``: a reward that asks a vision-language model behind an OpenAI-compatible server, and keeps the answers.

A failure is an error, never a score.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.pool import ThreadPool
from typing import Any, ClassVar

import torch
from PIL import Image, ImageDraw
from torch import Tensor

import steer
from steer import Field, Options, Prompt, Reward, RewardError, SteerError
from steer.plugin import image_bytes, pictures
from steer_judges.cache import Answers, key_of, usual_folder
from steer_judges.chat import Chat
from steer_judges.modes import Mode
from steer_judges.questions import Question
from steer_judges.replies import BadReply, Reply, reply_from

PROBE = "a red circle on a white background"
APART = 0.05
"""The least by which the probe's own image must score above a black one."""


class JudgeOptions(Options):
    """Options of every judge."""

    url: str | None = Field(None, description="Address of the server, such as http://localhost:8000/v1. Required.")
    model: str | None = Field(None, description="Model to ask if the reward names none.")
    tokens: int | None = Field(
        None,
        ge=1,
        description="Most tokens of a reply, thoughts included; by default as many as it takes, or a few for a word.",
    )
    extra: str | None = Field(
        None,
        description='More fields of the request as JSON, such as {"chat_template_kwargs": {"enable_thinking": false}}.',
    )
    concurrency: int = Field(8, ge=1, le=256, description="Questions on their way at once.")
    timeout: float = Field(120.0, gt=0, description="Seconds for one answer.")
    retries: int = Field(4, ge=0, le=20, description="Further tries after a failure or a bad reply.")
    cache: str | None = Field(
        "auto", description="Folder that keeps answers; auto is one in the hub's cache, none keeps none."
    )
    key_variable: str = Field("OPENAI_API_KEY", description="Environment variable with the server's key.")


@dataclass(frozen=True)
class Ask:
    """One question about one image of a prompt; without one it is the check at the start."""

    picture: Image.Image
    question: Question
    prompt: str | None


class Judge(Reward):
    """What a vision-language model says of image and prompt; 0…1, higher is better. A subclass makes its mode."""

    Options: ClassVar[type[steer.Options]] = JudgeOptions
    options: JudgeOptions
    name: ClassVar[str]
    usual_model: ClassVar[str | None] = None

    def prepare(self) -> None:
        """Check that the server answers, and that its model sees images.

        Raises:
            SteerError: if not.
        """
        options = self.options
        model = self.argument if self.argument is not None else options.model or self.usual_model
        if model is None:
            raise SteerError(f"{self.name}: name the model, as in {self.name}:Qwen/Qwen3-VL-8B-Instruct")
        if options.url is None:
            raise SteerError(f"{self.name}: set -o {self.name}.url=ADDRESS, such as http://localhost:8000/v1")
        self.chat = Chat(
            self.name, options.url, model, key=options.key_variable, timeout=options.timeout, retries=options.retries
        )
        self.mode = self.make_mode()
        limit = {} if options.tokens is None else {"max_completion_tokens": options.tokens}
        self.fields = {**self.mode.fields, **limit, **_extra(options.extra, self.name)}
        place = usual_folder() if options.cache == "auto" else options.cache
        self.answers = None if place is None else Answers(place)
        self._check()

    def make_mode(self) -> Mode:
        """Return the way to ask and to read answers."""
        raise NotImplementedError

    def questions(self, prompt: Prompt | str) -> list[Question]:
        """Return the questions about an image of a prompt.

        Raises:
            SteerError: naming the prompt, if its row holds something else than questions.
        """
        return self.mode.questions(prompt, None)

    def combine(self, scores: Sequence[float]) -> float:
        """Return one score of those of an image's questions."""
        return sum(scores) / len(scores)

    def completed(self, prompt: Prompt) -> Prompt:
        """Check a prompt's questions before anything is sampled."""
        self.questions(prompt)
        return prompt

    def __call__(self, samples: Tensor, prompts: Sequence[Prompt | str]) -> Tensor:
        asked = [
            [Ask(picture, question, str(prompt)) for question in self.questions(prompt)]
            for picture, prompt in zip(pictures(samples.float()), prompts, strict=True)
        ]
        keys = [[self._key(ask) for ask in asks] for asks in asked]
        scores = self.scores(
            {key: ask for names, asks in zip(keys, asked, strict=True) for key, ask in zip(names, asks, strict=True)}
        )
        combined = [self.combine([scores[key] for key in names]) for names in keys]
        return torch.tensor(combined, dtype=torch.float32, device=samples.device)

    def scores(self, asks: Mapping[str, Ask]) -> dict[str, float]:
        """Return the scores of questions by their keys: kept ones, and those that the server gives now.

        Raises:
            SteerError: naming the first prompt without a score; answers that came before it are kept.
        """
        known = {key: score for key, ask in asks.items() if (score := self._kept(key, ask.question)) is not None}
        missing = [key for key in asks if key not in known]
        if missing:
            # its threads are daemons: after an error or Ctrl-C nothing waits for questions that are on their way
            with ThreadPool(min(self.options.concurrency, len(missing))) as pool:
                known |= dict(pool.imap_unordered(lambda key: (key, self._asked(asks[key], key)), missing))
        return known

    def _asked(self, ask: Ask, key: str | None = None) -> float:
        """Return the score that the server gives; the answer is kept if there is a key."""
        text = self.mode.wording(ask.question)

        def score(reply: Reply) -> float:
            return self.mode.score(reply, ask.question)

        reply, found = self.chat.ask(image_bytes(ask.picture), text, self.fields, score, ask.prompt)
        if self.answers is not None and key is not None:
            self.answers.keep(key, {"model": self.chat.model, "asked": text, "reply": reply.as_dict()})
        return found

    def _kept(self, key: str, question: Question) -> float | None:
        kept = self.answers.get(key) if self.answers is not None else None
        if not isinstance(kept, dict):
            return None
        try:
            return self.mode.score(reply_from(kept.get("reply")), question)
        except BadReply:  # kept by another version, or damaged
            return None

    def _key(self, ask: Ask) -> str:
        asked = {**self.fields, "model": self.chat.model, "text": self.mode.wording(ask.question)}
        return key_of({**asked, "size": ask.picture.size}, ask.picture.tobytes())

    def _check(self) -> None:
        """Raise if a black image scores like one that shows what is asked: then no score would mean anything."""
        (question,) = self.mode.questions(PROBE, None)
        with ThreadPool(2) as pool:
            shown, black = pool.map(lambda picture: self._asked(Ask(picture, question, None)), _probes())
        if shown < black + APART:
            raise RewardError(
                f"{self.name}: {self.chat.model} at {self.chat.url} gives a black image {black:.3f} and a picture of "
                f"{PROBE} {shown:.3f}, for that prompt; it does not see images, so its scores would mean nothing"
            )


def _probes() -> Iterator[Image.Image]:
    shown = Image.new("RGB", (224, 224), "white")
    ImageDraw.Draw(shown).ellipse((48, 48, 176, 176), fill="red")
    yield from (shown, Image.new("RGB", (224, 224), "black"))


def _extra(text: str | None, owner: str) -> dict[str, Any]:
    if text is None:
        return {}
    try:
        fields = json.loads(text)
    except ValueError as error:
        raise SteerError(f"{owner}.extra: got {text[:80]!r}, expected a JSON object ({error})") from None
    if not isinstance(fields, dict):
        raise SteerError(f"{owner}.extra: got {text[:80]!r}, expected a JSON object")
    return fields
