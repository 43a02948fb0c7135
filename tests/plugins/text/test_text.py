"""The model that ships, through the same core, commands and folders as images; and what is refused."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from steer import Prompt, Sampler, SteerError
from steer.cli.app import app
from steer.models.media.media import joined
from steer.models.media.text import Texts
from steer.registry.plugins import manager
from steer.rewards.by_name import make_reward
from steer_shapes.captions import sample_training
from steer_shapes.sentences import ShapesGrammar
from steer_text import tokenizer
from steer_text.process import MaskedDiffusion
from steer_text.rewards.plain import Length, Mentions, Regex, RegexOptions
from steer_text.train.task import TextTask

RUN = {"particles": 4, "steps": 8, "seed": 3, "chunk": 4}
FK = {"fk": {"lambda": 10.0, "potential": "diff", "start": 0.0, "every": 0.2, "end": 1.0, "draws": 2}}


@pytest.fixture(scope="module")
def sampler() -> Sampler:
    return Sampler("text:shapes", device="cpu")


def steer(*words: str, status: int = 0) -> str:
    result = CliRunner().invoke(app, words, catch_exceptions=False, standalone_mode=False)
    assert result.exit_code == status, result.output
    return result.output


@pytest.mark.slow
def test_texts_begin_with_their_prefix_and_depend_on_no_other_prompt(sampler: Sampler) -> None:
    alone = sampler.generate([Prompt("a red circle", id="one")], choose="all", **RUN)
    beside = sampler.generate([Prompt("...", id="two"), Prompt("a red circle", id="one")], choose="all", **RUN)
    assert alone.texts == beside.items[1].texts
    assert all(text.startswith("a red circle") for text in alone.texts)
    assert alone.items[0].modality == "text" and alone.items[0].recipe.settings["guidance_scale"] is None
    with pytest.raises(TypeError, match=r"use .*\.text"):
        _ = alone.images


@pytest.mark.arithmetic
def test_fk_and_best_of_n_steer_by_a_plain_function(sampler: Sampler) -> None:
    def stars(samples, prompts):
        return torch.tensor([float("star" in text) for text in samples])

    prompts = [Prompt("a ...", id=str(seed), seed=seed) for seed in range(0, 800, 100)]
    plain, steered = (
        sampler.generate(
            prompts,
            methods=methods,
            options=FK if methods else None,
            reward=stars,
            choose="all",
            **{**RUN, "chunk": 32},
        )
        for methods in ((), "fk")
    )
    gain = [one.mean_reward - other.mean_reward for one, other in zip(steered.items, plain.items, strict=True)]
    assert np.mean(gain) > 0.1
    best = sampler.generate("a ...", methods="best-of-n", options={"best-of-n": {"n": 8}}, reward=stars, **RUN)
    assert best.items[0].reward == 1


def test_a_trace_shows_tokens_coming_out_along_the_genealogy(sampler: Sampler) -> None:
    item = sampler.generate("a ...", methods="fk", options=FK, reward="shapes-grammar", **RUN).items[0]
    frames = [event for event in item.trace["events"] if event["kind"] == "tokens"]
    assert [event["step"] for event in frames] == list(range(9))
    assert all(row[0] == "a" and set(row[1:]) == {None} for row in frames[0]["tokens"])
    last = dict(zip(frames[-1]["slots"], frames[-1]["tokens"], strict=True))
    for sample in item.samples:
        assert "".join(last[sample.slot]) == sample.text.replace(" ", "")


@pytest.mark.slow  # five commands and figures of traces
def test_generate_render_and_replay_write_texts(tmp_path: Path) -> None:
    out, again = str(tmp_path / "out"), str(tmp_path / "again")
    words = ["-m", "text:shapes", "-p", "fk", "-r", "shapes-grammar", "-n", "2", "--steps", "6", "--device", "cpu"]
    shown = steer("generate", "a red ...", "--baseline", "--out", out, *words)
    (row,) = [json.loads(line) for line in (tmp_path / "out" / "texts.jsonl").read_text().splitlines()]
    file = tmp_path / "out" / row["file_name"]
    assert file.read_text() == row["text"] + "\n" and row["text"] in shown
    assert "steered" in (tmp_path / "out" / "compare.txt").read_text()
    assert "equal to the original" in steer("replay", str(file), "--out", again, "--device", "cpu")
    lines = tmp_path / "prefixes.txt"
    lines.write_text("a red ...\na dotted star and\n")
    place = tmp_path / "render"
    for _ in "ab":  # the second makes nothing
        steer("render", str(lines), "--out", str(place), *words)
    rows = [json.loads(line) for line in (place / "metadata.jsonl").read_text().splitlines()]
    assert [(place / row["file_name"]).read_text() for row in rows] == [row["text"] + "\n" for row in rows]
    assert rows[1]["text"].startswith("a dotted star and")
    page = "".join(file.read_text() for file in (place / "page").iterdir())
    assert json.dumps(rows[0]["text"]) in page and '"tokens"' in page
    assert len((place / "journal.jsonl").read_text().splitlines()) == 2
    verdict = steer("replay", str(place / rows[0]["file_name"]), "--out", again, "--force", "--device", "cpu")
    assert "equal to the original" in verdict


@pytest.mark.slow
def test_a_rows_length_and_temperature_are_its_own_and_a_plan_speaks_of_texts(tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"prompt": "a ...", "length": 8, "temperature": 0.5}\n{"prompt": "a red ..."}\n')
    words = ["-m", "text:shapes", "--steps", "2", "--device", "cpu", "--out", str(tmp_path / "render")]
    plan = steer("render", str(rows), "--dry-run", *words)
    assert "8 tokens" in plan and "24 tokens" in plan and "temperature 0.5" in plan and "2 texts, " in plan
    steer("render", str(rows), *words)
    recipes = [json.loads(line)["recipe"] for line in (tmp_path / "render" / "details.jsonl").read_text().splitlines()]
    settings = [(recipe["settings"]["length"], recipe["settings"]["temperature"]) for recipe in recipes]
    assert (8, 0.5) in settings and len(set(settings)) == 2
    for name, *extra in (("layout geneval", "--layout", "geneval"), ("previews", "--previews", "2")):
        with pytest.raises(SteerError, match=f"{name}: for images, and this model makes texts; leave it out"):
            steer("render", str(rows), *words, "--out", str(tmp_path / name), *extra)
        assert not (tmp_path / name).exists()
    rows.write_text('{"prompt": "a", "length": -3}\n')
    with pytest.raises(SteerError, match=r"line 1: length=-3: expected int in 1\.\."):
        steer("render", str(rows), "--dry-run", *words)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"prompts": "a red circle and " * 9}, r"has 37 tokens, but the model's texts have at most 24"),
        ({"prompts": "a xylophone"}, r"the model does not know 'xylophone'"),
        ({"prompts": "a red circle", "length": 4}, r"a prompt has 4 tokens, and length=4 includes them"),
        ({"prompts": "a", "length": 99}, r"length=99: this model's texts have at most 24 tokens"),
        ({"prompts": "a", "reward": "clip"}, r"reward 'clip' scores images, and this model makes texts"),
        ({"prompts": "a", "reward": "length+min(shapes,length)"}, r"reward 'shapes' scores images"),
        (
            {"prompts": "a", "width": 64, "height": 64},
            r"width is a setting of images and videos, and",
        ),
        ({"prompts": "a", "reward": "regex:("}, r"is not a regular expression"),
        ({"prompts": "a", "reward": "mentions"}, r"gives any words"),
        ({"prompts": "a", "reward": "fluency:/nowhere"}, r"reward 'fluency:/nowhere': no such folder"),
        ({"prompts": "a", "reward": "length", "methods": "carinox"}, r"a text has no gradient|carinox"),
        ({"prompts": "a", "methods": "dmd2"}, r"dmd2 has students of image models only, and this model makes texts"),
        (
            {"prompts": "a", "reward": "length", "methods": "refine"},
            r"refine adds noise to samples, which is not possible for a text",
        ),
        (
            {"prompts": Prompt("a", metadata={"negative": "b"})},
            r"negative is a setting of images and videos, and this model makes",
        ),
        ({"prompts": "a red [EOS] star"}, r"\[EOS\] is not allowed; .* a prompt takes is \[MASK\]"),
    ],
)
def test_mistakes_are_one_line(sampler: Sampler, arguments: dict, message: str) -> None:
    prompts = arguments.pop("prompts")
    with pytest.raises(SteerError, match=message) as caught:
        sampler.generate(prompts, **{**RUN, **arguments})
    assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_text_settings_and_rewards_are_refused_by_image_models() -> None:
    images = Sampler("shapes", device="cpu")
    with pytest.raises(SteerError, match="reward 'length' scores texts, and this model makes images"):
        images.generate("a red circle", reward="length")
    with pytest.raises(SteerError, match="temperature is a setting of texts, and this model makes images"):
        images.generate("a red circle", temperature=0.5)


def test_unknown_models_are_one_line() -> None:
    with pytest.raises(SteerError, match=r"model 'text:shpes': no such folder — did you mean 'shapes'\?"):
        Sampler("text:shpes", device="cpu")


def test_plain_rewards() -> None:
    prompts = [Prompt("a", metadata={"mentions": ["red star"]}), "b"]
    texts = Texts(["a red star, a cross", "a red, a star"])
    assert Mentions()(texts, [prompts[0]] * 2).tolist() == [1, 0]
    assert Mentions(argument="Cross,star")(texts, prompts).tolist() == [1, 0.5]
    assert Mentions(argument="T-shirt")(Texts(["a t-shirt", "a shirt"]), prompts).tolist() == [1, 0]
    assert Length()(texts, prompts).tolist() == [5, 4]
    assert Length(argument="4")(texts, prompts).tolist() == [-0.25, 0]
    for wrong in ("0", "-1", "²", "a"):
        with pytest.raises(SteerError, match=f"length:{wrong}: expected a number of words"):
            Length(argument=wrong)
    assert make_reward(["length:4:1"], {}, manager(), torch.device("cpu"))(texts, prompts).tolist() == [-0.25, 0]
    assert Regex(RegexOptions(pattern=r"star$"))(texts, prompts).tolist() == [0, 1]


def test_the_verifier_takes_captions_and_nothing_else() -> None:
    rng = np.random.default_rng(0)
    captions = [sample_training(rng).text() for _ in range(50)]
    assert ShapesGrammar()(captions, captions).tolist() == [1.0] * 50
    others = ["", "a red", "a red circle and", "star red a", "the cat sleeps", "a red circle a star"]
    scores = ShapesGrammar()(others, others)
    assert scores.max() < 1 and scores[1] > scores[3] and scores[0] == 0


def test_only_what_is_masked_changes_and_rare_tokens_come_as_often_as_they_should() -> None:
    x = torch.tensor([[0, 3, 1], [3, 3, 3]])
    logits = torch.log(torch.tensor([0.7, 0.3, 1e-9, 0.5])).expand(2, 3, 4)
    process = MaskedDiffusion(4, 3)
    level = torch.tensor([0.0, 0.5, 1 - 1e-16, 1.0 - 5e-10], dtype=torch.float64)
    drawn = process.draw_x0(x, logits, level.view(1, 4, 1).expand(2, 4, 3))
    assert drawn[0, :, 0].tolist() == [0] * 4 and drawn[0, :, 2].tolist() == [1] * 4
    assert drawn[1, :, 0].tolist() == [0, 0, 2, 2] or drawn[1, :, 0].tolist() == [0, 0, 2, 1]
    assert process.estimate(x, logits).tolist() == [[0, 0, 1], [0, 0, 0]]


def test_texts_index_as_tensors_do() -> None:
    texts = Texts(["a", "b", "c"])
    assert texts[torch.tensor([2, 0])] == Texts(["c", "a"]) and texts[:2] == Texts(["a", "b"]) and texts[1] == "b"
    assert joined([texts, Texts(["d"])]) == Texts("abcd")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny causal language model and a tiny classifier, as folders of transformers."""
    from transformers import BertConfig, BertForSequenceClassification, GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("models")
    tokens = tokenizer.build(["a red star and the blue cat."], length=32)
    size = {"vocab_size": len(tokens), "bos_token_id": 2, "eos_token_id": 3}
    causal = GPT2LMHeadModel(GPT2Config(n_embd=8, n_layer=1, n_head=2, n_positions=32, **size))
    small = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
    labels = {"id2label": {0: "calm", 1: "Toxic"}, "label2id": {"calm": 0, "Toxic": 1}}
    judge = BertForSequenceClassification(BertConfig(vocab_size=len(tokens), **small, **labels))
    for name, model in (("causal", causal), ("judge", judge)):
        model.save_pretrained(folder / name)
        tokens.save_pretrained(folder / name)
    return folder


def test_fluency_is_minus_the_log_of_the_perplexity(models: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    cls = manager().registry.get("reward", "fluency").load()
    texts = ["a red star", "the blue cat and a star", "", "a red star"]
    scores = cls(argument=str(models / "causal"))(texts, texts)
    model, tokens = (kind.from_pretrained(models / "causal") for kind in (AutoModelForCausalLM, AutoTokenizer))
    for text, found in zip(texts[:2], scores, strict=False):
        ids = torch.tensor([[2, *tokens(text, add_special_tokens=False).input_ids]])
        assert float(found) == pytest.approx(-model(input_ids=ids, labels=ids).loss.item(), abs=1e-5)
    assert float(scores[2]) == pytest.approx(-np.log(len(tokens)), abs=1e-5) and scores[3] == scores[0]
    long = " ".join(["star"] * 31)  # with its beginning as much as the model takes; more of it is not read
    assert len(set(cls(argument=str(models / "causal"))([long, f"{long} star star"], texts[:2]).tolist())) == 1
    perplexity = cls(SimpleNamespace(perplexity=True, max_tokens=512), argument=str(models / "causal"))(texts, texts)
    assert torch.allclose(perplexity, -torch.exp(-scores))


def test_a_classifier_scores_the_probability_of_its_label(models: Path) -> None:
    cls = manager().registry.get("reward", "classifier").load()
    texts = ["a red star", "the cat"]
    toxic, calm = (cls(argument=f"{models}/judge/{label}")(texts, texts) for label in ("toxic", "calm"))
    assert torch.allclose(toxic + calm, torch.ones(2)) and 0 < toxic.min() < 1
    assert cls(argument=f"{models}/judge/calm")(["star " * 600], texts[:1]).isfinite().all()
    with pytest.raises(SteerError, match=r"unknown label of .*'txic' — did you mean 'Toxic'\? \(known: Toxic, calm\)"):
        cls(argument=f"{models}/judge/txic")
    with pytest.raises(SteerError, match="that is a folder without a label"):
        cls(argument=f"{models}/judge")
    with pytest.raises(SteerError, match="name a classifier and a label"):
        cls(argument=None)


def _killed() -> None:
    raise MemoryError("stands for a power cut")


@pytest.mark.training
def test_training_goes_on_where_it_was_interrupted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = tmp_path / "lines.txt"
    lines.write_text("a red star\nthe cat sleeps\n")
    small = ["--data", str(lines), "--batch", "4", "--length", "8", "--width", "32", "--layers", "1"]
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    steer("train", "text", "--steps", "4", "--out", str(whole), *small)
    with pytest.raises(MemoryError), monkeypatch.context() as patch:
        losses, taken = TextTask.losses, itertools.count()
        patch.setattr(TextTask, "losses", lambda *given: losses(*given) if next(taken) < 3 else _killed())
        steer("train", "text", "--steps", "4", "--save-every", "2", "--out", str(parts), *small)
    steer("train", "text", "--steps", "4", "--out", str(parts), "--resume", *small)
    one, two = ((place / "model" / "model.safetensors").read_bytes() for place in (whole, parts))
    assert one == two
    assert Sampler(f"text:{parts / 'model'}", device="cpu").generate("a", steps=2).texts[0].startswith("a")
    with pytest.raises(SteerError, match="holds a run already"):
        steer("train", "text", "--out", str(parts), *small)
    with pytest.raises(SteerError, match="has batch=4, now it is 8"):
        steer("train", "text", "--out", str(parts), "--resume", *small, "--batch", "8")
    with pytest.raises(SteerError, match="holds no run"):
        steer("train", "text", "--out", str(tmp_path / "none"), "--resume", *small)
    with pytest.raises(SteerError, match="--width 100: expected a multiple of 32"):
        steer("train", "text", "--out", str(tmp_path / "odd"), *small, "--width", "100")
    lines.write_text("a red star\nthe dog sleeps\n")
    with pytest.raises(SteerError, match=r"has words=.* resume with the same options and data"):
        steer("train", "text", "--out", str(parts), "--resume", *small)


@pytest.mark.parametrize(
    ("name", "argument", "repositories"),
    [
        ("fluency", "openai-community/gpt2", ["openai-community/gpt2"]),
        ("fluency", "gpt2", ["gpt2"]),
        ("fluency", "./folder", []),
        ("classifier", "org/name/LABEL_1", ["org/name"]),
        ("classifier", None, []),
    ],
)
def test_what_a_reward_takes_from_the_hub_follows_from_its_argument(name, argument, repositories) -> None:
    entry = manager().registry.rewards[name]
    assert [needed.repo for needed in entry.weights(argument)] == repositories
