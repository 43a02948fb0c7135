"""Searches without gradients: independent samples, cheap drafts, random steps around the best, and early pruning."""

from steer import hookimpl
from steer.plugin import Registry


@hookimpl
def steer_register(registry: Registry) -> None:
    """Register the methods; nothing is imported yet."""
    registry.method("best-of-n", "steer_search.independent:BestOfN", summary="keep the best of n samples per prompt")
    registry.method(
        "random", "steer_search.independent:Random", summary="keep the best of as many samples as a budget allows"
    )
    registry.method(
        "zero-order", "steer_search.zero_order:ZeroOrder", summary="random steps of the noise around the best sample"
    )
    registry.method(
        "refine",
        "steer_search.refine:Refine",
        summary="noise the best samples part of the way back and denoise them again",
    )
    registry.method(
        "draft", "steer_search.draft:Draft", summary="search with cheap drafts, and redo only the best of them, exactly"
    )
    registry.method("prune", "steer_search.prune:Prune", summary="begin with many particles and finish only the best")
    registry.method(
        "beam", "steer_search.beam:Beam", summary="continue the best particles of each step, in several copies each"
    )
