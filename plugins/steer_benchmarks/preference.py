"""Sets of prompts that are judged by models of human preference: PartiPrompts, DrawBench, HPS v2, ImageReward's 100."""

from collections.abc import Mapping

from steer import Prompt, SteerError
from steer.plugin import Benchmark, Measure, PromptFile, Published, parse_prompts
from steer_benchmarks.sources import on_github

PEOPLE = "The paper asks people; this judge is one of those that others report."
PREFERENCE = (
    Measure("imagereward", "imagereward", note=PEOPLE, official=False),
    Measure("hps", "hps", scale=100, note=PEOPLE, official=False),
)

PARTI_FILE = on_github(
    "google-research/parti", "5a657978134374ce28973948331b319adef164bd", "PartiPrompts.tsv", "Apache-2.0",
    sha256="fab29e41bb512a169b56acab4cf2a41dcb675e285df2efcde6640c7dd3c440eb",
)  # fmt: skip
DRAWBENCH_FILE = PromptFile(
    "drawbench.csv",
    "https://docs.google.com/spreadsheets/d/1y7nAbmR4FREi6npB1u-Bo3GFdwdOPYJc617rBOxIRHY/gviz/tq?tqx=out:csv&sheet=Sheet1",
    "the authors of Imagen", "not stated",
)  # fmt: skip
IMAGEREWARD_FILE = on_github(
    "THUDM/ImageReward", "c1392c6dd0fd6ecd6d416c96959ab744a6d0a8fb", "benchmark/benchmark-prompts.json", "Apache-2.0",
    sha256="34682e824ebb3ad8e2531b3cde1b362dc72e1e29946ff6fab77bb49e9edb4b21",
)  # fmt: skip
STYLES = {"anime": "Animation", "concept-art": "Concept-art", "paintings": "Painting", "photo": "Photo"}
HPSV2_FILES = tuple(
    PromptFile(
        f"{style}.json", f"https://huggingface.co/datasets/zhwang/HPDv2/resolve/main/benchmark/{style}.json",
        "zhwang/HPDv2", "Apache-2.0",
    )
    for style in STYLES
)  # fmt: skip


def counted(prompts: list[Prompt], count: int, name: str) -> list[Prompt]:
    """Return prompts whose number is the published one; for files without a known checksum.

    Raises:
        SteerError: for another number.
    """
    if len(prompts) != count:
        raise SteerError(f"{name} holds {len(prompts)} prompts, and the benchmark has {count}: it is another file")
    return prompts


def read_parti(files: Mapping[str, bytes]) -> list[Prompt]:
    """Return the prompts with their categories; the challenge is in the metadata."""
    return parse_prompts(files[PARTI_FILE.name], name=PARTI_FILE.name, kind="tsv")


def read_drawbench(files: Mapping[str, bytes]) -> list[Prompt]:
    """Return the prompts with their categories."""
    return counted(parse_prompts(files["drawbench.csv"], name="drawbench.csv", kind="csv"), 200, "drawbench.csv")


def read_hpsv2(files: Mapping[str, bytes]) -> list[Prompt]:
    """Return the prompts of the four styles, which are their categories."""
    found = []
    for file, title in zip(HPSV2_FILES, STYLES.values(), strict=True):
        prompts = counted(parse_prompts(files[file.name], name=file.name, kind="json"), 800, file.name)
        found += [
            prompt.having(category=title, id=f"{file.name.removesuffix('.json')}-{number:03d}")
            for number, prompt in enumerate(prompts)
        ]
    return found


def read_imagereward(files: Mapping[str, bytes]) -> list[Prompt]:
    """Return the 100 prompts."""
    return parse_prompts(files[IMAGEREWARD_FILE.name], name=IMAGEREWARD_FILE.name, kind="json")


def _hpsv2(model: str, *figures: float) -> Published:
    groups = dict(zip([*STYLES.values(), "overall"], figures, strict=True))
    return Published(model, "HPSv2's repository, README, v2.1", {"hps": groups})


def _imagereward(model: str, score: float) -> Published:
    return Published(model, "ImageReward, arXiv 2304.05977, table 1", {"imagereward": {"overall": score}})


PARTI = Benchmark("PartiPrompts", "arXiv 2206.10789", read_parti, PREFERENCE, files=(PARTI_FILE,))
DRAWBENCH = Benchmark("DrawBench", "arXiv 2205.11487", read_drawbench, PREFERENCE, files=(DRAWBENCH_FILE,))
IMAGEREWARD = Benchmark(
    "ImageReward's 100 prompts", "arXiv 2304.05977", read_imagereward, (Measure("imagereward", "imagereward"),),
    images=10, files=(IMAGEREWARD_FILE,),
    published=(
        _imagereward("Openjourney", 0.2614), _imagereward("Stable Diffusion 2.1 base", 0.2458),
        _imagereward("DALL-E 2", 0.2114), _imagereward("Stable Diffusion 1.4", 0.1344),
        _imagereward("Versatile Diffusion", -0.2470), _imagereward("CogView 2", -1.2376),
    ),
)  # fmt: skip
HPSV2 = Benchmark(
    "HPS v2", "arXiv 2306.09341", read_hpsv2, (Measure("hps", "hps", scale=100),), files=HPSV2_FILES,
    published=(
        _hpsv2("SDXL Base 0.9", 32.84, 31.36, 30.86, 27.48, 30.63),
        _hpsv2("SDXL Refiner 0.9", 33.26, 32.07, 31.63, 28.38, 31.34),
        _hpsv2("Stable Diffusion 2.0", 27.09, 26.02, 25.68, 26.73, 26.38),
        _hpsv2("Stable Diffusion 1.4", 26.03, 24.87, 24.80, 25.70, 25.35),
    ),
)  # fmt: skip
