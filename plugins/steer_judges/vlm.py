"""``vlm``: any vision-language model behind an OpenAI-compatible server (vLLM, SGLang, Ollama, hosted) as a judge.

The score is VQAScore's idea (Lin et al. 2024, arXiv 2404.01291) with any model, Soft-TIFA (GenEval 2, Kamath et al.
2025, arXiv 2512.16853) for rows with questions and answers, a rubric, or a final answer after thoughts.
"""

import math
from collections.abc import Sequence
from typing import Literal

from steer import Field, Prompt
from steer_judges.judge import Judge, JudgeOptions
from steer_judges.modes import FinalAnswer, Mode, Probability, Rubric
from steer_judges.questions import Question


class VlmOptions(JudgeOptions):
    """Options of ``vlm``."""

    mode: Literal["probability", "rubric", "answer"] = Field(
        "probability",
        description="probability: P(yes) / (P(yes) + P(no)) from log-probabilities; rubric: points by a JSON schema; "
        "answer: whether the final answer is right, after any thoughts.",
    )
    question: str | None = Field(
        None,
        description="Question about every image, with {prompt} for the prompt; by default the questions of the "
        "prompt's row, else whether the image shows the prompt.",
    )
    aspects: tuple[str, ...] = Field(
        ("prompt following", "composition", "visual quality"), min_length=1, description="What a rubric judges."
    )
    combine: Literal["mean", "geometric"] = Field(
        "mean", description="How the answers to several questions make one score: their mean, or geometric mean."
    )


class Vlm(Judge):
    """What a vision-language model says of image and prompt; 0…1, higher is better."""

    Options = VlmOptions
    options: VlmOptions
    name = "vlm"

    def make_mode(self) -> Mode:
        """Return the mode of the options."""
        if self.options.mode == "rubric":
            return Rubric(self.options.aspects)
        return FinalAnswer() if self.options.mode == "answer" else Probability()

    def questions(self, prompt: Prompt | str) -> list[Question]:
        """Return the option's question, else those of the prompt."""
        return self.mode.questions(prompt, self.options.question)

    def combine(self, scores: Sequence[float]) -> float:
        """Return the mean or the geometric mean."""
        if self.options.combine == "mean":
            return super().combine(scores)
        return math.exp(sum(map(math.log, scores)) / len(scores)) if min(scores) > 0 else 0.0
