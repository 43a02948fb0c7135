"""The published prompt files as benchmarks read them, from small files of the same form."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping

import pytest

from steer import SteerError
from steer.plugin import Benchmark
from steer.registry.plugins import manager
from steer.rewards.expressions import leaves, parse_expression
from steer_benchmarks import compbench, geneval, graphs, preference


def table(*rows: Mapping[str, str], delimiter: str = ",") -> bytes:
    """Return a CSV file."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), delimiter=delimiter)
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()


def lines(*rows: object) -> bytes:
    """Return a file of JSON lines."""
    return "".join(f"{json.dumps(row)}\n" for row in rows).encode()


def test_geneval_keeps_what_each_prompt_asks_for() -> None:
    row = {"tag": "counting", "include": [{"class": "bench", "count": 3}], "prompt": "a photo of three benches"}
    (prompt,) = geneval.read({"evaluation_metadata.jsonl": lines(row)})
    assert (prompt, prompt.category, prompt.metadata["include"][0]["count"]) == (row["prompt"], "counting", 3)


def test_geneval2_goes_by_the_number_of_atoms() -> None:
    row = {"prompt": "two cats", "atom_count": 3, "vqa_list": [["How many cats?", "two"]], "skills": ["count"]}
    (prompt,) = graphs.read_geneval2({"geneval2_data.jsonl": lines(row)})
    assert prompt.category == "3 atoms" and prompt.metadata["vqa_list"] == [["How many cats?", "two"]]
    assert graphs.by_skill(0.0, {"answers": [0.25]}, prompt) == [("count", 0.25)]


def test_dpg_groups_questions_by_prompt_and_finds_their_parents() -> None:
    def row(item: str, number: str, parents: str, kind: str, question: str) -> dict[str, str]:
        return {
            "item_id": item, "text": f"text of {item}", "keywords": "", "proposition_id": number, "dependency": parents,
            "category_broad": "", "category_detailed": "", "tuple": f"{kind} (x)",
            "question_natural_language": question,
        }  # fmt: skip

    data = table(
        row("explained", "the number", "the parents", "kind", "the question"),
        row("b", "1", "0", "entity - whole", "Is there a car?"),
        row("b", "3", "1,2", "attribute - color", "Is it red?"),
        row("b", "2", "0", "global", "Is it a photo?"), row("a", "1", "0", "other - count", "Are there two?"),
    )  # fmt: skip
    first, second = graphs.read_dpg({"dpg_bench.csv": data})
    assert (first, first.id, second.id) == ("text of b", "b", "a")
    assert first.metadata["questions"] == ["Is there a car?", "Is it red?", "Is it a photo?"]
    assert first.metadata["dependencies"] == [[], [0, 2], []] and second.metadata["dependencies"] == [[]]
    assert first.metadata["kinds"] == ["entity", "attribute", "global"]
    assert graphs.by_kind(0.0, {"answers": [True, False, True]}, first) == [
        ("entity", 1.0), ("attribute", 0.0), ("global", 1.0)
    ]  # fmt: skip


def test_oneig_takes_the_categories_with_questions() -> None:
    graph = {"question": json.dumps({"1": "Is there a man?", "2": "Is he old?"}),
             "dependency": json.dumps({"1": [0], "2": [1]})}  # fmt: skip
    files = {
        "OneIG-Bench.csv": table(
            {"category": "Portrait", "id": "000", "prompt_en": "an old man"},
            {"category": "Text_Rendering", "id": "000", "prompt_en": "a sign"},
        ),
        "human.json": lines({"000": graph}), "anime.json": b"{}", "object.json": b"{}",
    }  # fmt: skip
    (prompt,) = graphs.read_oneig(files)
    assert (prompt, prompt.id, prompt.category) == ("an old man", "Portrait-000", "Portrait")
    assert prompt.metadata == {"questions": ["Is there a man?", "Is he old?"], "dependencies": [[], [0]]}
    assert graphs.aligned(0.0, {"answers": [False, True]}, prompt) == 0
    assert graphs.aligned_by_category(0.0, {"answers": [True, False]}, prompt) == [("Portrait", 0.5)]


def test_compbench_gives_each_prompt_its_judge() -> None:
    texts = {name: [f"{name} {number}" for number in range(2)] for name in compbench.FILES}
    texts["complex_val"] = ["A cat on a mat.", "a dog runs", "a red pen. it is long"]
    texts["complex_val_spatial"], texts["complex_val_action"] = ["a cat on a mat. "], ["A dog runs"]
    files = {f"{name}.txt": "\n".join(rows).encode() for name, rows in texts.items()}
    prompts = compbench.read(files)
    assert len(prompts) == 7 * 2 + 3 and len({prompt.id for prompt in prompts}) == len(prompts)
    measure = compbench.COMPBENCH.measures[0]
    judges = {str(prompt): measure.judge_of(prompt) for prompt in prompts}
    assert judges["color_val 0"] == "bvqa" and judges["spatial_val 1"] == "compbench-2d"
    assert [judges[text].count(":") for text in texts["complex_val"]] == [2, 3, 4]
    for expression in measure.judges:  # the parts of a complex prompt weigh the same
        weights = [term.weight for term in leaves(parse_expression(expression))]
        if len(weights) > 1:
            assert [w * 100 if w < 0.1 else w for w in weights] == pytest.approx(
                [1 / len(weights)] * len(weights), abs=1e-4
            )


def test_prompts_that_people_judge_are_read_with_their_categories() -> None:
    parti = table({"Prompt": "a cat", "Category": "Animals", "Challenge": "Basic", "Note": ""}, delimiter="\t")
    (prompt,) = preference.read_parti({"PartiPrompts.tsv": parti})
    assert (prompt, prompt.category) == ("a cat", "Animals")
    rows = [{"Prompts": f"text {number}", "Category": "Colors"} for number in range(200)]
    read = preference.read_drawbench({"drawbench.csv": table(*rows)})
    assert len(read) == 200 and read[7] == "text 7" and read[0].category == "Colors"
    with pytest.raises(SteerError, match=r"drawbench\.csv holds 199 prompts, and the benchmark has 200"):
        preference.read_drawbench({"drawbench.csv": table(*rows[1:])})
    files = {f"{style}.json": json.dumps([f"{style} {n}" for n in range(800)]).encode() for style in preference.STYLES}
    prompts = preference.read_hpsv2(files)
    assert len(prompts) == len({prompt.id for prompt in prompts}) == 3200 and prompts[-1].category == "Photo"
    hundred = [{"prompt": "a cat", "id": "000111"}]
    (one,) = preference.read_imagereward({"benchmark-prompts.json": json.dumps(hundred).encode()})
    assert (one, one.id) == ("a cat", "000111")


KNOWN = {name: entry.load() for name, entry in sorted(manager().registry.benchmarks.items())}


@pytest.mark.parametrize("name", KNOWN)
def test_a_specification_is_sound(name: str) -> None:
    benchmark: Benchmark = KNOWN[name]
    measures = [measure.name for measure in benchmark.measures]
    assert len(set(measures)) == len(measures) and benchmark.images >= 1 and benchmark.title and benchmark.paper
    rewards = manager().registry.rewards
    for expression in benchmark.judges:
        assert {term.name for term in leaves(parse_expression(expression))} <= rewards.keys()
    for file in benchmark.files:
        assert file.url.startswith("https://") and file.license and file.owner and file.name == file.needed.file
        assert not (file.sha256 and file.git)
        assert len(file.sha256) in (0, 64) and len(file.git) in (0, 40)
        if "githubusercontent" in file.url:  # of one commit
            assert len(file.url.split("/")[5]) == 40 and (file.sha256 or file.git)
    for known in benchmark.published:
        assert known.source and known.figures.keys() <= set(measures)
        for measure in benchmark.measures:
            low, high = (-2, 2) if measure.judge == "imagereward" else (0, 100 if measure.scale == 100 else 1)
            assert all(low <= value <= high for value in known.figures.get(measure.name, {}).values())
