"""Text by masked diffusion: models, rewards of texts, and a small shipped model (arXiv 2406.07524)."""

from steer import hookimpl
from steer.plugin import Registry


@hookimpl
def steer_register(registry: Registry) -> None:
    """Register the models, the rewards, the data and the training command; nothing is imported yet."""
    registry.backbone("LLaDA2Pipeline", "steer_text.llada2:LLaDA2", summary="LLaDA2: text, by block-wise refinement")
    registry.backbone(
        "DiffusionGemmaPipeline", "steer_text.diffusion_gemma:DiffusionGemma",
        summary="DiffusionGemma: text, canvas by canvas",
    )  # fmt: skip
    registry.loader(
        "text", "steer_text.backbone:from_name", summary="masked language models: shapes (ships), a folder, a hub id"
    )
    registry.reward(
        "fluency", "steer_text.rewards.fluency:Fluency", summary="texts: minus the log-perplexity under a causal LM",
        weights="steer_text.rewards.needed:fluency",
    )  # fmt: skip
    registry.reward(
        "classifier", "steer_text.rewards.classifier:Classifier", summary="texts: probability of a classifier's label",
        weights="steer_text.rewards.needed:classifier",
    )  # fmt: skip
    registry.reward(
        "length", "steer_text.rewards.plain:Length", summary="texts: number of words, or closeness to a number"
    )
    registry.reward(
        "mentions", "steer_text.rewards.plain:Mentions", summary="texts: share of the given words that occur, 0..1"
    )
    registry.reward("regex", "steer_text.rewards.plain:Regex", summary="texts: does a regular expression match? 0 or 1")
    registry.data(
        "small-town", "steer_text.data:small_town", of="texts", summary="everyday sentences, written for this purpose"
    )
    registry.command(
        "train text", "steer_text.train.cli:command", summary="train a masked-diffusion model of sentences"
    )
