"""The beam: what goes on in copies, what that costs, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from support.tiny import brightness

from steer import Sampler, SteerError
from steer.prompts.prompt import Prompt
from steer_search.beam import descendants

TEXTS = ["a red circle", "a blue square"]
EACH = 2  # evaluations per step, guided
OPTIONS = {"particles": 6, "at": "0,0.5", "width": 0.6, "copies": 3}
"""Of six particles four go on: two, and a copy of each."""


@pytest.fixture(scope="module")
def sampler(tiny_pipe) -> Sampler:
    return Sampler(tiny_pipe)


def generate(sampler: Sampler, prompts: Any = TEXTS, *, options: dict[str, Any] = OPTIONS, **arguments: Any):
    settings = {"steps": 4, "guidance_scale": 3.0, "chunk": 4, "reward": brightness, "seed": 5, **arguments}
    return sampler.generate(prompts, methods="beam", options={"beam": options}, **settings)


@pytest.mark.slow  # two populations
def test_the_best_of_each_selection_go_on_in_copies(sampler) -> None:
    result = generate(sampler, choose="all")
    for item in result.items:
        looks = [event for event in item.trace["events"] if event["kind"] == "reward"]
        moves = [event for event in item.trace["events"] if event["kind"] == "resample"]
        assert [len(look["slots"]) for look in looks] == [6, 4, 4]
        for look, move in zip(looks, moves, strict=False):
            best = [slot for _, slot in sorted(zip(look["reward"], look["slots"], strict=True), reverse=True)]
            copies = {slot: move["ancestors"].count(slot) for slot in move["ancestors"]}
            assert copies == {best[0]: 2, best[1]: 2}
            assert best[0] in move["slots"] and best[1] in move["slots"]
        assert len({sample.image.tobytes() for sample in item.samples}) == 4
        assert item.trace["log_z"] is None
    assert result.cost.nfe == len(TEXTS) * EACH * (6 + 4 + 4 + 4)
    alone = generate(sampler, TEXTS[1])
    assert alone.images[0].tobytes() == max(result.items[1].samples, key=lambda s: s.reward).image.tobytes()


@pytest.mark.parametrize("given", [{"scheduler": "euler", "transitions": 3}, {"scheduler": "dpm2-a", "steps": 2}])
def test_no_copies_where_no_noise_follows(sampler, given: dict[str, Any]) -> None:
    found = generate(sampler, TEXTS[0], options={"particles": 8, "width": 0.5, "at": "0,0.9"}, choose="all", **given)
    samples = found.items[0].samples
    assert len({sample.image.tobytes() for sample in samples}) == len(samples)


def test_it_says_that_it_selected_nothing(sampler) -> None:
    with pytest.warns(UserWarning, match="beam selected nothing"):
        generate(sampler, TEXTS[0], options={"particles": 4, "at": "0.5"}, transitions=1)


@pytest.mark.parametrize("method", ["beam", "fk"])
def test_copies_come_apart_within_a_search(sampler, method: str) -> None:
    inner = {"beam": {"at": "0", "width": 0.5}, "fk": {"lambda": 1e6, "at": "0"}}[method]
    found = sampler.generate(
        TEXTS[0], methods=["zero-order", method], options={"zero-order": {"rounds": 1}, method: inner}, particles=8,
        steps=3, guidance_scale=1.0, reward=brightness, choose="all", seed=5,
    )  # fmt: skip
    moves = [event["ancestors"] for event in found.items[0].trace["events"] if event["kind"] == "resample"]
    assert len(moves) == 2 and all(len(set(ancestors)) < len(ancestors) for ancestors in moves)
    assert len({sample.image.tobytes() for sample in found.items[0].samples}) == len(found.items[0].samples)


def test_a_look_ahead_is_paid_for(sampler) -> None:
    ahead = generate(sampler, TEXTS[0], options={"particles": 4, "at": "0.25", "width": 0.5, "lookahead": 1})
    assert ahead.cost.nfe == EACH * (4 + 4 + 4 + 2 + 2)


def test_packs_are_made_for_those_that_go_on(sampler) -> None:
    from steer.sampling.session import Session, pack_size_of

    options = {"beam": {"particles": 32, "width": 0.25}}
    session = Session(
        sampler.model, sampler.plugins, methods=["beam"], reward=brightness, options=options, chunk=4, eta=1.0
    )
    assert pack_size_of(session.run([Prompt("a")])) == 64 // 8


@pytest.mark.parametrize(("width", "copies"), [(1, 1), (3, 3), (6, 2), (7, 3), (9, 1), (9, 20)])
def test_survivors_keep_their_places_and_share_the_others_evenly(width: int, copies: int) -> None:
    rows = torch.tensor([4, 8, 0, 2, 6, 1, 3, 5, 7])
    ancestors = descendants(rows, width, copies).tolist()
    survivors = rows[: len(set(ancestors))].tolist()
    assert len(ancestors) == width and ancestors[: len(survivors)] == survivors
    counts = [ancestors.count(row) for row in survivors]
    assert max(counts) <= copies and max(counts) - min(counts) <= 1
    assert len(survivors) == 1 or (len(survivors) - 1) * copies < width  # no more survivors than needed


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"eta": 0.0}, "beam needs a stochastic sampler"),
        ({"steps": 1}, "this run has one;"),
        ({"reward": None}, "beam needs a reward"),
        ({"options": {"at": "0.5,0.2"}}, "increasing shares"),
        ({"options": {"at": "1"}}, "increasing shares"),
        ({"options": {"particles": 1}}, "particles"),
    ],
)
def test_what_cannot_work_is_refused(sampler, arguments: dict[str, Any], says: str) -> None:
    with pytest.raises(SteerError, match=says):
        generate(sampler, **arguments)
