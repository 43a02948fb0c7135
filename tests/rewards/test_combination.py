"""Scales, min() and judges: how rewards combine, and what is held out."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from support.tiny import brightness

from steer import Sampler, SteerError
from steer.registry.plugins import Plugins
from steer.render.replay import read_recipe
from steer.rewards.by_name import check_judges, make_reward, reward_names
from steer.rewards.combinations import is_differentiable
from steer.rewards.expressions import Minimum, Scale, Term, join, leaves, parse_expression
from steer.rewards.reward import Reward

IMAGES = torch.stack([torch.full((3, 4, 4), value) for value in (0.0, 0.25, 1.0)])
PROMPTS = ["a", "b", "c"]


class Red(Reward):
    """Red channel; differentiable, with a declared mean and sd."""

    differentiable = True
    typical = (0.5, 0.25)

    def __call__(self, samples, prompts):
        return samples[:, 0].mean(dim=(1, 2))


@pytest.fixture
def plugins() -> Plugins:
    found = Plugins()
    found.registry.reward("bright", brightness)
    found.registry.reward("red", Red)
    found.registry.reward("dark", lambda samples, prompts: 1 - samples.mean(dim=(1, 2, 3)))
    return found


def score(expression: str, plugins: Plugins) -> list[float]:
    made = make_reward([expression], {}, plugins, torch.device("cpu"))
    assert made is not None
    return made(IMAGES, PROMPTS).tolist()


@pytest.mark.parametrize(
    ("text", "node"),
    [
        ("clip@15..35", Term("clip", scale=Scale("15..35", 15, 20))),
        ("clip:shapes@z25,4:0.5", Term("clip", "shapes", 0.5, Scale("z25,4", 25, 4))),
        ("hps@-.5..1e+3", Term("hps", scale=Scale("-.5..1e+3", -0.5, 1000.5))),
        ("hps@z", Term("hps", scale=Scale("z"))),
        ("vqa:org/name@main/x", Term("vqa", "org/name@main/x")),
        ("http:http://gpu1:8100", Term("http", "http://gpu1:8100")),
        ("http:http://10.0.0.1:8100@0..1:2", Term("http", "http://10.0.0.1:8100", 2.0, Scale("0..1", 0, 1))),
        ("http:https://gpu/x:2", Term("http", "https://gpu/x", 2.0)),
        ("min(a,b:2)", Minimum(((Term("a"),), (Term("b", None, 2.0),)))),
        ("min(a@z25,4,b+c):3", Minimum(((Term("a", scale=Scale("z25,4", 25, 4)),), (Term("b"), Term("c"))), 3.0)),
    ],
)
def test_what_can_be_written(text, node) -> None:
    assert parse_expression(text) == [node]
    assert parse_expression(join([node])) == [node]


@pytest.mark.parametrize(
    ("text", "example"),
    [
        ("clip@15-35", "clip@15..35"),
        ("clip@", "clip@15..35"),
        ("clip@35..15", "@15..35"),
        ("clip@z25,0", "@z25,4"),
        ("clip@z25", "clip@z25,4"),
        ("clip@0..1e999", "finite"),
        ("min(a)", r"min\(shapes,clip@15..35\)"),
        ("min(a,b", "min"),
        ("min(a,,b)", "shapes:1"),
        ("max:", "shapes:1"),
    ],
)
def test_what_cannot_is_one_line_with_an_example(text, example) -> None:
    with pytest.raises(SteerError, match=example) as error:
        parse_expression(text)
    assert "\n" not in str(error.value)


def test_scales_and_minimum_compute_what_they_say(plugins) -> None:
    assert score("bright@0..0.5", plugins) == [0, 0.5, 2]
    assert score("bright@z0.25,0.25:2", plugins) == [-2, 0, 6]
    assert score("red@z", plugins) == [-2, -1, 2]
    assert score("min(bright,dark)", plugins) == [0, 0.25, 0]
    assert score("min(bright+dark,red:4):0.5+dark", plugins) == [1.0, 1.25, 0.5]


def test_a_bare_z_needs_a_declaration(plugins) -> None:
    with pytest.raises(SteerError, match="'bright' states no typical mean and sd; give them, as in bright@z25,4"):
        score("bright@z", plugins)


def test_a_combination_scores_rows_alone_and_passes_gradients(plugins) -> None:
    made = make_reward(["min(red@0..2,red:3)+red@z"], {}, plugins, torch.device("cpu"))
    assert is_differentiable(made)
    assert made(IMAGES[1:2], PROMPTS[1:2]).item() == made(IMAGES, PROMPTS)[1].item()
    leaf = IMAGES.clone().requires_grad_()
    made(leaf, PROMPTS).sum().backward()
    assert torch.allclose(leaf.grad[2, 0].sum(), torch.tensor(0.5 + 4.0))
    mixed = make_reward(["min(red,bright)"], {}, plugins, torch.device("cpu"))
    assert not is_differentiable(mixed)


def test_an_error_within_names_the_reward_at_fault(plugins) -> None:
    plugins.registry.reward("broken", lambda samples, prompts: samples.mean(dim=(1, 2, 3)) * float("nan"))
    with pytest.raises(SteerError, match=r"^reward 'broken' returned nan for prompt 'a'"):
        score("bright+min(red,broken@0..1)", plugins)


def test_names_within_min_own_their_options() -> None:
    assert reward_names(["min(a:x,b@0..1)+c"]) == {"a", "b", "c"}
    assert [term.label for term in leaves(parse_expression("min(a:x,b)+c"))] == ["a:x", "b", "c"]


def test_the_same_weights_under_another_name_are_the_same_reward() -> None:
    with pytest.raises(SteerError, match=r"'hps:v2\.1' is both a reward and a judge"):
        check_judges(["hps"], ["hps:v2.1"])
    check_judges(["hps"], ["hps:v2.0"])


RUN = {"steps": 2, "particles": 2, "seed": 1}


@pytest.fixture
def sampler(tiny_pipe, plugins) -> Sampler:
    from steer.registry.plugins import manager

    plugins.registry.entries["backbone"] = manager().registry.entries["backbone"]
    return Sampler(tiny_pipe, plugins=plugins, device="cpu")


@pytest.mark.slow
def test_a_judge_is_reported_and_changes_nothing(sampler, tmp_path: Path) -> None:
    plain = sampler.generate("a red circle", reward="bright", **RUN).items[0]
    result = sampler.generate("a red circle", reward="bright", judge=["dark", "red"], **RUN)
    item = result.items[0]
    assert item.chosen == plain.chosen
    assert [s.reward for s in item.samples] == [s.reward for s in plain.samples]
    for sample in item.samples:
        assert sample.judge["dark"] == pytest.approx(1 - sample.reward, abs=1e-6)
    assert set(item.judge) == {"dark", "red"}
    folder = Path(result.save(tmp_path / "out"))
    row = json.loads((folder / "result.json").read_text())["items"][0]
    assert row["judge"] == dict(item.judge)
    assert row["particles"][0]["judge"] == dict(item.samples[0].judge)
    recipe, _ = read_recipe(next(folder.glob("*-00*.png")))
    assert recipe.judge == ["dark", "red"]


@pytest.mark.parametrize(("reward", "judge"), [("bright", "bright"), ("dark+min(bright:2,red)", "bright@0..1")])
def test_a_judge_that_steers_is_refused(sampler, reward, judge) -> None:
    with pytest.raises(SteerError, match="'bright' is both a reward and a judge"):
        sampler.generate("a red circle", reward=reward, judge=judge, **RUN)


def test_another_label_of_a_classifier_is_another_reward() -> None:
    check_judges(["classifier:org/name/GOOD"], ["classifier:org/name/BAD"])
    with pytest.raises(SteerError, match="is both a reward and a judge"):
        check_judges(["classifier:org/name/GOOD"], ["classifier:org/name/GOOD"])
