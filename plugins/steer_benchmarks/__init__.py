"""Published benchmarks as specifications for ``steer bench``: prompts, judges, aggregation, known figures."""

from steer import hookimpl
from steer.plugin import Registry


@hookimpl
def steer_register(registry: Registry) -> None:
    """Register the benchmarks; nothing is imported yet."""
    registry.benchmark(
        "geneval", "steer_benchmarks.geneval:GENEVAL", summary="objects, counts, colors, positions: 553 prompts"
    )
    registry.benchmark(
        "geneval2", "steer_benchmarks.graphs:GENEVAL2", summary="GenEval 2: 800 prompts of 3 to 10 atoms, by Soft-TIFA"
    )
    registry.benchmark(
        "t2i-compbench", "steer_benchmarks.compbench:COMPBENCH",
        summary="T2I-CompBench++: 8 categories of composition, 300 prompts each",
    )  # fmt: skip
    registry.benchmark("dpg", "steer_benchmarks.graphs:DPG", summary="DPG-Bench: 1,065 dense prompts, by questions")
    registry.benchmark("oneig", "steer_benchmarks.graphs:ONEIG", summary="OneIG-Bench: alignment of 695 prompts")
    registry.benchmark(
        "parti", "steer_benchmarks.preference:PARTI", summary="PartiPrompts: 1,632 prompts in 12 categories"
    )
    registry.benchmark(
        "drawbench", "steer_benchmarks.preference:DRAWBENCH", summary="DrawBench: 200 prompts in 11 categories"
    )
    registry.benchmark(
        "hpsv2", "steer_benchmarks.preference:HPSV2", summary="HPS v2: 3,200 prompts in 4 styles, human preference"
    )
    registry.benchmark(
        "imagereward", "steer_benchmarks.preference:IMAGEREWARD", summary="ImageReward's 100 prompts, 10 images each"
    )
