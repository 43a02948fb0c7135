"""Benchmarks of questions about each prompt: GenEval 2 (Soft-TIFA), DPG-Bench and OneIG-Bench (scene graphs)."""

import csv
import io
import json
from collections.abc import Iterable, Mapping
from typing import Any

from steer import Prompt
from steer.plugin import Benchmark, Measure, Published, parse_prompts
from steer_benchmarks.sources import on_github

GENEVAL2_FILE = on_github(
    "facebookresearch/GenEval2", "a6e82d2289e8d418f27f0adee77908b07060eea3", "geneval2_data.jsonl", "CC BY-NC 4.0",
    sha256="09233adbc9f877fba205f1a20efa4a8640e7e62a91dfd55893562bed8a928e43",
)  # fmt: skip
DPG_FILE = on_github(
    "TencentQQGYLab/ELLA", "3c228f1dc6c4d3cad0a47493816151a419f14db3", "dpg_bench/dpg_bench.csv", "Apache-2.0",
    git="98457fc9901943f51ff9a30367250fc292533bed",
)  # fmt: skip
ONEIG_COMMIT = "41b49831e79e6dde5323618c164da1c4cf0f699d"
ONEIG_CLASSES = {"anime": "Anime_Stylization", "human": "Portrait", "object": "General_Object"}
"""Files of questions, and the categories of their prompts."""
ONEIG_FILES = (
    on_github(
        "OneIG-Bench/OneIG-Benchmark", ONEIG_COMMIT, "OneIG-Bench.csv", "not stated",
        sha256="e06c65b32252d82406fb1a27f13022b38d432c899a2486eb49ab0c100f83b3e1",
    ),
    *(
        on_github(
            "OneIG-Bench/OneIG-Benchmark", ONEIG_COMMIT, f"scripts/alignment/Q_D/{name}.json", "not stated",
            sha256=digest,
        )
        for name, digest in (
            ("anime", "21ea3d0360e69d72bc5f4cbb93b203d293d16f5c2f626634a52b990119e0a6e3"),
            ("human", "0e92b25c6bc4091cac05fa0f4269b3b37465a7cd43ca2768f55f56149cdbf13b"),
            ("object", "350dfdf72c2da143c78a7544d4c554faf6698c1ba4fcd27c7a9cc9199d487e0e"),
        )
    ),
)  # fmt: skip


# ---- GenEval 2 -------------------------------------------------------------------------------------------------------


def read_geneval2(files: Mapping[str, bytes]) -> list[Prompt]:
    """Return the prompts with their questions and skills; the category is the number of atoms."""
    prompts = parse_prompts(files[GENEVAL2_FILE.name], name=GENEVAL2_FILE.name, kind="jsonl")
    return [prompt.having(category=f"{prompt.metadata['atom_count']} atoms") for prompt in prompts]


def by_skill(score: float, details: Mapping[str, Any], prompt: Prompt) -> Iterable[tuple[str, float]]:
    """Return the probability of each right answer under the skill that its question tests."""
    return list(zip(prompt.metadata["skills"], details["answers"], strict=True))


def mean_answer(score: float, details: Mapping[str, Any], prompt: Prompt) -> float:
    """Return the mean probability of right answers (Soft-TIFA AM)."""
    return float(sum(details["answers"]) / len(details["answers"]))


GENEVAL2 = Benchmark(
    title="GenEval 2",
    paper="arXiv 2512.16853",
    files=(GENEVAL2_FILE,),
    read=read_geneval2,
    measures=(
        Measure("GM", "soft-tifa", scale=100, note="Soft-TIFA GM: the geometric mean over a prompt's questions."),
        Measure(
            "AM", "soft-tifa", parts=by_skill, whole=mean_answer, scale=100,
            note="Soft-TIFA AM: the mean over questions, by skill.",
        ),
    ),
)  # fmt: skip


# ---- DPG-Bench -------------------------------------------------------------------------------------------------------


def read_dpg(files: Mapping[str, bytes]) -> list[Prompt]:
    """Return the prompts with their questions, the questions' parents, and the category of each question."""
    rows: dict[str, list[dict[str, str]]] = {}
    for row in csv.DictReader(io.StringIO(files[DPG_FILE.name].decode("utf-8-sig"))):
        if row["proposition_id"].strip().isdecimal():  # the second row explains the columns
            rows.setdefault(row["item_id"], []).append(row)
    prompts = []
    for name, items in rows.items():
        places = {int(item["proposition_id"]): place for place, item in enumerate(items)}
        parents = [[int(part) for part in item["dependency"].split(",")] for item in items]
        metadata = {
            "questions": [item["question_natural_language"] for item in items],
            "dependencies": [[places[parent] for parent in each if parent in places] for each in parents],
            "kinds": [item["tuple"].partition("(")[0].partition("-")[0].strip() for item in items],
        }
        prompts.append(Prompt(items[0]["text"], id=name, metadata=metadata))
    return prompts


def by_kind(score: float, details: Mapping[str, Any], prompt: Prompt) -> Iterable[tuple[str, float]]:
    """Return each answer under the kind of its question; answers count before dependencies, as published."""
    return [(kind, float(yes)) for kind, yes in zip(prompt.metadata["kinds"], details["answers"], strict=True)]


DPG_GROUPS = ("global", "entity", "attribute", "relation", "other")


def _dpg(model: str, overall: float, *figures: float) -> Published:
    groups = dict(zip(DPG_GROUPS, figures, strict=True))
    source = "ELLA, arXiv 2403.05135, table 4, and later models' papers"
    return Published(model, source, {"dpg": {**groups, "overall": overall}})


DPG = Benchmark(
    title="DPG-Bench",
    paper="arXiv 2403.05135",
    files=(DPG_FILE,),
    read=read_dpg,
    images=4,
    measures=(
        Measure(
            "dpg", "dsg", parts=by_kind, scale=100, official=False,
            note="The official judge is mPLUG-large of ModelScope, which transformers does not have; a stronger judge "
            "gives other figures.",
        ),
    ),
    published=(
        _dpg("Stable Diffusion 1.5", 63.18, 74.63, 74.23, 75.39, 73.49, 67.81),
        _dpg("Stable Diffusion XL", 74.65, 83.27, 82.43, 80.91, 86.76, 80.41),
        _dpg("PixArt-α", 71.11, 74.97, 79.32, 78.60, 82.57, 76.96),
        _dpg("DALL-E 3", 83.50, 90.97, 89.61, 88.39, 90.58, 89.83),
        _dpg("Stable Diffusion 3 medium", 84.08, 87.90, 91.01, 88.83, 80.70, 88.68),
        _dpg("FLUX.1 dev", 83.84, 74.35, 90.00, 88.96, 90.87, 88.33),
    ),
)  # fmt: skip


# ---- OneIG-Bench -----------------------------------------------------------------------------------------------------


def read_oneig(files: Mapping[str, bytes]) -> list[Prompt]:
    """Return the prompts of the categories whose alignment is measured, with their questions and parents."""
    graphs = {category: json.loads(files[f"{name}.json"]) for name, category in ONEIG_CLASSES.items()}
    prompts = []
    for row in csv.DictReader(io.StringIO(files["OneIG-Bench.csv"].decode("utf-8-sig"))):
        graph, category = graphs.get(row["category"], {}).get(row["id"]), row["category"]
        if graph is None:
            continue
        questions, parents = json.loads(graph["question"]), json.loads(graph["dependency"])
        places = {number: place for place, number in enumerate(questions)}
        depends = [[places[str(one)] for one in parents.get(number, []) if str(one) in places] for number in questions]
        metadata = {"questions": list(questions.values()), "dependencies": depends}
        prompts.append(Prompt(row["prompt_en"], id=f"{category}-{row['id']}", category=category, metadata=metadata))
    return prompts


def aligned(score: float, details: Mapping[str, Any], prompt: Prompt) -> float:
    """Return the share of questions answered yes with their direct parents; a parent's own parents do not count."""
    answers, depends = details["answers"], prompt.metadata["dependencies"]
    counted = [yes and all(answers[one] for one in parents) for yes, parents in zip(answers, depends, strict=True)]
    return float(sum(counted) / len(counted))


def aligned_by_category(score: float, details: Mapping[str, Any], prompt: Prompt) -> Iterable[tuple[str, float]]:
    """Return the same under the prompt's category."""
    return [(str(prompt.category), aligned(score, details, prompt))]


def _oneig(model: str, alignment: float) -> Published:
    return Published(model, "OneIG-Bench's repository, README", {"alignment": {"overall": alignment}})


ONEIG = Benchmark(
    title="OneIG-Bench, alignment",
    paper="arXiv 2506.07977",
    files=ONEIG_FILES,
    read=read_oneig,
    images=4,
    measures=(Measure("alignment", "dsg", parts=aligned_by_category, whole=aligned),),
    published=(
        _oneig("Stable Diffusion 1.5", 0.565), _oneig("Stable Diffusion XL", 0.688),
        _oneig("Stable Diffusion 3.5 Large", 0.809), _oneig("FLUX.1 dev", 0.786), _oneig("SANA-1.5 1.6B (PAG)", 0.762),
        _oneig("Lumina-Image 2.0", 0.819), _oneig("HiDream-I1-Full", 0.829), _oneig("GPT-4o", 0.851),
    ),
    about="English prompts and alignment alone: text, reasoning, style and diversity are not measured.",
)  # fmt: skip
