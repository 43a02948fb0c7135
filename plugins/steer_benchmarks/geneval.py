"""GenEval (Ghosh, Hajishirzi & Schmidt 2023, arXiv 2310.11513): are objects, counts, colors and positions right?"""

from collections.abc import Mapping

from steer import Prompt
from steer.plugin import Benchmark, Measure, Published, parse_prompts
from steer_benchmarks.sources import on_github

FILE = on_github(
    "djghosh13/geneval", "af4902f24d3ca90ebbb446dd9891a59e0f82725f", "prompts/evaluation_metadata.jsonl", "MIT",
    sha256="5c48e0813e812e3c373fa5c8ed07a8f0a483be30272b4427b0559c8048e67c13",
)  # fmt: skip
NAME = "geneval"
GROUPS = ("single_object", "two_object", "counting", "colors", "position", "color_attr")


def read(files: Mapping[str, bytes]) -> list[Prompt]:
    """Return the prompts with what each asks for; the tag is the category."""
    return parse_prompts(files[FILE.name], name=FILE.name, kind="jsonl")


def _known(model: str, overall: float, *figures: float) -> Published:
    groups = dict(zip(GROUPS, figures, strict=True))
    return Published(model, "GenEval's repository, README", {NAME: {**groups, "overall": overall}})


GENEVAL = Benchmark(
    title="GenEval",
    paper="arXiv 2310.11513",
    files=(FILE,),
    read=read,
    images=4,
    measures=(
        Measure(
            NAME, "geneval", overall="groups", official=False,
            note="The rules are GenEval's; the detector is not (Mask2Former of transformers instead of mmdet's), so "
            "compare with published figures only roughly.",
        ),
    ),
    published=(
        _known("Stable Diffusion 1.5", 0.43, 0.97, 0.38, 0.35, 0.76, 0.04, 0.06),
        _known("Stable Diffusion 2.1", 0.50, 0.98, 0.51, 0.44, 0.85, 0.07, 0.17),
        _known("Stable Diffusion XL", 0.55, 0.98, 0.74, 0.39, 0.85, 0.15, 0.23),
        _known("IF-XL", 0.61, 0.97, 0.74, 0.66, 0.81, 0.13, 0.35),
    ),
)  # fmt: skip
