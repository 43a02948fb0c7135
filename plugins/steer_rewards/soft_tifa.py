"""Soft-TIFA (Kamath et al. 2025, arXiv 2512.16853) and scene-graph questions, asked of a vision-language model."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from steer import Field, Options, Prompt, Reward
from steer.plugin import Repository, Source, locate
from steer_rewards import catalog
from steer_rewards.graph import YES, geometric_mean, graph_of, pairs_of, spellings, with_dependencies
from steer_rewards.image_text import ImageText

ONE_WORD = "{} Answer in one word."
YES_OR_NO = "{}. Please answer 'Yes' or 'No' only."


class AskedOptions(Options):
    """Options of the rewards that ask a vision-language model."""

    weights: str | None = Field(None, description="Local folder with the model's files.")
    dtype: Literal["auto", "fp32", "bf16"] = Field(
        "auto", description="Precision of the model; auto is fp32 on the CPU, else bf16."
    )


class SoftTifaOptions(AskedOptions):
    """Options of ``soft-tifa``."""

    model: str = Field(
        catalog.SOFT_TIFA, description="Model to use if the reward names none: ORG/MODEL of the hub, or a folder."
    )
    mean: Literal["geometric", "arithmetic"] = Field(
        "geometric", description="Mean over a prompt's questions: geometric (of prompts) or arithmetic (of atoms)."
    )


class DsgOptions(AskedOptions):
    """Options of ``dsg``."""

    model: str = Field(
        catalog.DSG, description="Model to use if the reward names none: ORG/MODEL of the hub, or a folder."
    )


class Asked(Reward):
    """Base: loads the model."""

    name: ClassVar[str]
    options: Any

    def prepare(self) -> None:
        """Load the model that ``argument`` or the option ``model`` names."""
        name = self.argument if self.argument is not None else self.options.model
        owner = self.name if self.argument is None else f"{self.name}:{name}"
        folder: Path | None = Source(name).folder
        if folder is None:
            folder = locate(Repository(name), owner=owner, given=self.options.weights)
        auto = torch.float32 if self.device.type == "cpu" else torch.bfloat16
        precision = {"auto": auto, "fp32": torch.float32, "bf16": torch.bfloat16}[self.options.dtype]
        self.backend = ImageText(folder, self.device, self.dtype or precision)
        self.model = self.backend.model

    def __call__(self, samples: Tensor, prompts: Sequence[Prompt | str]) -> Tensor:
        return self.explained(samples, list(prompts))[0]  # type: ignore[arg-type]


class SoftTifa(Asked):
    """Mean probability of the right answers to the questions of a prompt's row, ``vqa_list``; 0…1."""

    name = "soft-tifa"
    Options = SoftTifaOptions
    options: SoftTifaOptions

    def completed(self, prompt: Prompt) -> Prompt:
        """Check the prompt's questions."""
        pairs_of(prompt)
        return prompt

    @torch.no_grad()
    def explained(self, samples: Tensor, prompts: Sequence[Prompt]) -> tuple[Tensor, list[dict[str, Any]]]:
        """Return the scores, and the probability of each right answer."""
        asked = [pairs_of(prompt) for prompt in prompts]
        rows = [row for row, pairs in enumerate(asked) for _ in pairs]
        questions = [ONE_WORD.format(question) for pairs in asked for question, _ in pairs]
        chances = self.backend.answers(samples, rows, questions)
        right = [self.backend.first_tokens(spellings(*pair)) for pairs in asked for pair in pairs]
        each = [float(row[tokens].sum()) for row, tokens in zip(chances, right, strict=True)]
        scores, details = [], []
        for pairs in asked:
            mine, each = each[: len(pairs)], each[len(pairs) :]
            scores.append(geometric_mean(mine) if self.options.mean == "geometric" else sum(mine) / len(mine))
            details.append({"answers": mine, "reason": _least(pairs, mine)})
        return torch.tensor(scores, dtype=torch.float32, device=samples.device), details


class Dsg(Asked):
    """Share of the yes-no questions of a prompt's row that are answered yes, with those they depend on; 0…1."""

    name = "dsg"
    Options = DsgOptions
    options: DsgOptions

    def completed(self, prompt: Prompt) -> Prompt:
        """Check the prompt's questions."""
        graph_of(prompt)
        return prompt

    @torch.no_grad()
    def explained(self, samples: Tensor, prompts: Sequence[Prompt]) -> tuple[Tensor, list[dict[str, Any]]]:
        """Return the scores, and each answer before dependencies count."""
        graphs = [graph_of(prompt) for prompt in prompts]
        rows = [row for row, (questions, _) in enumerate(graphs) for _ in questions]
        texts = [YES_OR_NO.format(question) for questions, _ in graphs for question in questions]
        likeliest = self.backend.answers(samples, rows, texts).argmax(dim=1).tolist()
        yes = self.backend.first_tokens(YES)
        answers = [token in yes for token in likeliest]
        scores, details = [], []
        for questions, dependencies in graphs:
            mine, answers = answers[: len(questions)], answers[len(questions) :]
            counted = with_dependencies(mine, dependencies)
            scores.append(sum(counted) / len(counted))
            no = [question for question, answer in zip(questions, mine, strict=True) if not answer]
            details.append({"answers": mine, "reason": f"no: {'; '.join(no[:3])}" if no else ""})
        return torch.tensor(scores, dtype=torch.float32, device=samples.device), details


def _least(pairs: Sequence[tuple[str, str]], chances: Sequence[float]) -> str:
    """Return the question whose right answer is the least likely."""
    chance, (question, answer) = min(zip(chances, pairs, strict=True))
    return f"{question} {answer}: {chance:.2f}"
