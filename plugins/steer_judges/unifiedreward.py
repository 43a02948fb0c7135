"""``unifiedreward``: UnifiedReward 2.0 (Wang et al. 2025, arXiv 2503.05236), a judge trained on human preferences.

Its authors serve it by vLLM. It gives an image points from 1 to 5 for alignment, coherence and style, in a fixed form.
"""

import re
from typing import Literal

from steer import Field
from steer_judges.judge import Judge, JudgeOptions
from steer_judges.modes import Mode, OneQuestion
from steer_judges.questions import Question
from steer_judges.replies import BadReply, Reply

Axis = Literal["alignment", "coherence", "style"]
AXES: tuple[Axis, ...] = ("alignment", "coherence", "style")
LOWEST, HIGHEST = 1, 5

_POINTS = re.compile(r"(alignment|coherence|style)\s+score\s*(?:\(1-5\))?\s*:\s*([-+\w.]+)", re.IGNORECASE)


class UnifiedRewardOptions(JudgeOptions):
    """Options of ``unifiedreward``."""

    axes: tuple[Axis, ...] = Field(
        AXES, min_length=1, description="What counts: the score is the mean of their points."
    )


class Points(OneQuestion):
    """Points of several axes, asked for in the words that the model was trained with (MIT, its authors)."""

    template = """You are presented with a generated image and its associated text caption. \
Your task is to analyze the image across multiple dimensions in relation to the caption. Specifically:
Provide overall assessments for the image along the following axes (each rated from 1 to 5):
- Alignment Score: How well the image matches the caption in terms of content.
- Coherence Score: How logically consistent the image is (absence of visual glitches, object distortions, etc.).
- Style Score: How aesthetically appealing the image looks, regardless of caption accuracy.

Output your evaluation using the format below:

Alignment Score (1-5): X
Coherence Score (1-5): Y
Style Score (1-5): Z

Your task is provided as follows:
Text Caption: [{prompt}]"""

    def __init__(self, axes: tuple[str, ...]) -> None:
        """Args: axes: those that count."""
        super().__init__()
        self.axes = axes

    def wording(self, question: Question) -> str:
        return question.text

    def score(self, reply: Reply, question: Question) -> float:
        found = {name.lower(): text for name, text in _POINTS.findall(reply.text)}
        total = 0.0
        for axis in self.axes:
            try:
                points = float(found[axis])
            except (KeyError, ValueError):
                raise BadReply(f"it has no points for {axis}") from None
            if not LOWEST <= points <= HIGHEST:
                raise BadReply(f"its points for {axis} are {points:g}, expected {LOWEST} to {HIGHEST}")
            total += (points - LOWEST) / (HIGHEST - LOWEST)
        return total / len(self.axes)


class UnifiedReward(Judge):
    """Mean of UnifiedReward's points, as a share of the highest; 0…1, higher is better."""

    Options = UnifiedRewardOptions
    options: UnifiedRewardOptions
    name = "unifiedreward"
    usual_model = "CodeGoat24/UnifiedReward-2.0-qwen3vl-8b"

    def make_mode(self) -> Mode:
        """Return the only one."""
        return Points(self.options.axes)
