"""Method specs and budgets as typed, and how sizes are fitted to budgets."""

from __future__ import annotations

from pathlib import Path

import pytest

from steer import Method, SteerError
from steer.evaluate.compare.budgets import Budget, Spent, fit, parse_budgets
from steer.evaluate.compare.spec import parse_entries
from steer.registry.plugins import manager


def entries(*specs: str, o: tuple[str, ...] = ()):
    return parse_entries(specs, o, manager())


def test_options_go_to_the_method_that_has_them_and_all_else_to_the_run() -> None:
    plain, fk, both = entries(
        "plain:steps=10", "fk:at=1,2,3,lambda=5,eta=1", "mine=dmd2+best-of-n:steps=4,nfe=80,guidance=1,choose=all"
    )
    assert (plain.label, plain.methods, plain.settings) == ("plain", (), {"steps": 10})
    assert fk.options == {"fk": {"at": "1,2,3", "lambda": "5"}}
    assert fk.settings == {"eta": 1.0}
    assert (both.label, both.methods) == ("mine", ("dmd2", "best-of-n"))
    assert both.options == {"dmd2": {"steps": "4"}, "best-of-n": {"nfe": "80"}}
    assert both.settings == {"guidance_scale": 1.0}
    assert both.choose == "all"


def test_sweeps_inside_a_spec_and_by_option() -> None:
    found = entries("fk:lambda=2|5", "best-of-n", o=("fk.particles=2,4", "best-of-n.steps=5,10", "fk.at=1,2"))
    assert [entry.label for entry in found] == [
        "fk lambda=2 particles=2", "fk lambda=2 particles=4", "fk lambda=5 particles=2", "fk lambda=5 particles=4",
        "best-of-n steps=5", "best-of-n steps=10",
    ]  # fmt: skip
    assert {entry.family for entry in found} == {"fk", "best-of-n"}
    assert found[0].options == {"fk": {"lambda": "2", "particles": "2", "at": "1,2"}}  # a list is no sweep
    assert found[5].settings == {"steps": 10}


@pytest.mark.parametrize(
    ("specs", "options", "problem"),
    [
        (["fkk"], (), "fkk"),
        (["fk:lamda=5"], (), "unknown option 'lamda'"),
        (["fk:lambda=-1"], (), "option fk.lambda: got '-1'"),
        (["plain:steps=0"], (), "steps=0"),
        (["fk", "fk:lambda=5"], (), "'fk' is given twice; name one of them"),
        (["fk:dmd2.steps=4"], (), "is not part of it"),
        (["fk"], ("dmd2.steps=4",), "belongs to no compared method (fk"),
        (["fk:choose=worst"], (), "choose='worst'"),
        ([f"{__file__}:entries"], (), "is a function, expected a steer.Method subclass"),
    ],
)
def test_what_is_not_of_the_form_is_told(specs, options, problem) -> None:
    with pytest.raises(SteerError) as error:
        entries(*specs, o=options)
    assert problem in str(error.value)


def test_budgets() -> None:
    assert parse_budgets(["seconds=0.5", "nfe=240,80"]) == [
        Budget("nfe", 80), Budget("nfe", 240), Budget("seconds", 0.5)
    ]  # fmt: skip
    for wrong in ("nfe", "nfe=0", "nfe=1.5", "time=3", "seconds=-1", "nfe=inf", "seconds=nan"):
        with pytest.raises(SteerError, match="expected nfe=COUNT"):
            parse_budgets([wrong])


@pytest.mark.parametrize(("overhead", "each"), [(0, 20), (7, 20), (100, 3), (0, 81)])
def test_as_many_particles_as_the_budget_pays_for(overhead, each) -> None:
    tried = []

    def trial(entry) -> Spent:
        tried.append(entry.settings["particles"])
        return Spent(overhead + each * entry.settings["particles"], 0.0)

    (entry,) = entries("plain")
    for amount in (200, 1000):
        fitted = fit(entry, Budget("nfe", amount), trial, manager())
        assert fitted.settings["particles"] == (amount - overhead) // each
    assert len(tried) <= 8  # trials cost too


@pytest.mark.parametrize("amount", range(24, 200, 8))
def test_a_funnel_gets_every_particle_that_is_paid_for_though_it_rounds_up(amount) -> None:
    def cost(count: int) -> int:
        half = -(-count // 2)
        return 4 * count + 8 * half + 8 * -(-half // 2)

    def trial(entry) -> Spent:
        return Spent(cost(entry.settings["particles"]), 0.0)

    (entry,) = entries("plain:choose=all")
    fitted = fit(entry, Budget("nfe", amount), trial, manager()).settings["particles"]
    assert cost(fitted) <= amount < cost(fitted + 1)


def fk_particles(entry) -> int:
    return int(entry.options["fk"]["particles"])


def test_seconds_are_kept_to_whatever_a_method_counts_by() -> None:
    def particles(entry) -> Spent:
        return Spent(0, 0.11 + 0.013 * fk_particles(entry))

    (fk,) = entries("fk")
    count = fk_particles(fit(fk, Budget("seconds", 1.0), particles, manager()))
    assert 0.97 <= 0.11 + 0.013 * count <= 1.0

    def padded(entry) -> Spent:
        assert fk_particles(entry) <= 64
        return Spent(0, 0.25 * -(-fk_particles(entry) // 16))

    assert 40 <= fk_particles(fit(fk, Budget("seconds", 0.8), padded, manager())) <= 48

    def evaluations(entry) -> Spent:
        nfe = int(entry.options["best-of-n"]["nfe"])
        if nfe < 20:
            raise SteerError("less than one sample takes")
        return Spent(nfe // 20 * 20, 0.1 + 0.005 * (nfe // 20 * 20))

    (search,) = entries("best-of-n")
    nfe = fit(search, Budget("seconds", 2.0), evaluations, manager()).options["best-of-n"]["nfe"]
    assert 0.9 * 2.0 <= evaluations(search.with_option("best-of-n", "nfe", nfe)).seconds <= 2.0

    def in_chunks(entry) -> Spent:  # a chunk that is not full costs as much as a full one
        nfe = int(entry.options["best-of-n"]["nfe"])
        return Spent(nfe // 4 * 4, 0.25 * -(-nfe // 80))

    nfe = fit(search, Budget("seconds", 0.8), in_chunks, manager()).options["best-of-n"]["nfe"]
    assert 200 <= nfe <= 240


def test_a_budget_too_small_says_the_least_that_works() -> None:
    (fk,) = entries("fk")
    with pytest.raises(SteerError, match=r"nfe=10 is too small for 'fk': 2 particles takes 40 NFE.*at least nfe=40"):
        fit(fk, Budget("nfe", 10), lambda entry: Spent(20 * fk_particles(entry), 1), manager())
    (fixed,) = entries("fk:particles=8")
    with pytest.raises(SteerError, match="at least nfe=160"):
        fit(fixed, Budget("nfe", 100), lambda entry: Spent(160, 1), manager())


ODD = """
import steer

class Flock(steer.Method):
    name = "flock"
    size_option = "birds"
    least_particles = 3

    class Options(steer.Options):
        birds: int = steer.Field(5, description="Samples per prompt.")

class Hunt(steer.Method):
    name = "hunt"
    size_option = "rabbits"
    budget_option = "shots"
    clock_option = "daylight"

    class Options(steer.Options):
        rabbits: int | None = steer.Field(None, description="Samples per prompt.")
        shots: int | None = steer.Field(None, description="Denoiser evaluations per prompt.")
        daylight: float | None = steer.Field(None, description="Seconds per prompt.")
        nfe: int = steer.Field(1, description="Nothing to do with evaluations.")

class Bare(steer.Method):
    name = "bare"

    class Options(steer.Options):
        n: int = steer.Field(1, description="Nothing to do with samples.")
"""


def test_methods_are_fitted_by_what_they_declare_whatever_their_options_are_called(tmp_path: Path) -> None:
    file = tmp_path / "odd.py"
    file.write_text(ODD)

    def fitted(spec: str, trial, budget: Budget | None = None):
        (entry,) = entries(f"{file}:{spec}")
        found = fit(entry, budget or Budget("nfe", 100), trial, manager())
        return dict(found.options), dict(found.settings)

    def per_bird(entry) -> Spent:
        birds = entry.options["flock"]["birds"]
        assert birds >= 3
        return Spent(20.0 * birds, 0.1 * birds)

    assert fitted("Flock", per_bird) == ({"flock": {"birds": 5}}, {})
    assert fitted("Flock", per_bird, Budget("seconds", 0.65)) == ({"flock": {"birds": 6}}, {})
    with pytest.raises(SteerError, match="3 particles takes 60 NFE"):
        fitted("Flock", per_bird, Budget("nfe", 40))

    def free(entry) -> Spent:
        return Spent(float(entry.settings.get("particles", 1)), 0.0)

    assert fitted("Hunt", free) == ({"hunt": {"shots": 100}}, {})
    assert fitted("Hunt:nfe=7", free) == ({"hunt": {"nfe": "7", "shots": 100}}, {})
    for said in ("rabbits=4", "shots=50", "daylight=2"):  # its size is said already
        name, _, value = said.partition("=")
        assert fitted(f"Hunt:{said}", free) == ({"hunt": {name: value}}, {})
    # what declares nothing takes the run's particles
    assert fitted("Bare", free) == ({}, {"particles": 100})
    assert fitted("Bare:n=7", free) == ({"bare": {"n": "7"}}, {"particles": 100})


def test_a_declaration_of_an_option_that_is_none_is_told() -> None:
    with pytest.raises(
        SteerError, match=r"'lost' declares size_option='birds', which is not one of its options \(none\)"
    ):
        type("Lost", (Method,), {"name": "lost", "size_option": "birds"})
