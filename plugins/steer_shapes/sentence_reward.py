"""``SentenceReward``, the base of rewards that compare samples with a sentence of the embedded world."""

from typing import Any

from steer import Prompt, Reward


class SentenceReward(Reward):
    """A reward whose prompts are sentences; another prompt is refused before anything is sampled."""

    @staticmethod
    def parse(text: str) -> Any:
        """Read a sentence.

        Raises:
            PromptError: naming what was expected.
        """
        raise NotImplementedError

    def completed(self, prompt: Prompt) -> Prompt:
        """Check that a prompt is a sentence.

        Raises:
            PromptError: naming what was expected.
        """
        self.parse(str(prompt))
        return prompt
