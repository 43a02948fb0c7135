"""FK steering against the closed form on a linear-Gaussian diffusion."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler
from support.linear_gaussian import LinearGaussian, Moments, OneStream, affine_moments, chain, vp

from steer.prompts.prompt import Prompt
from steer.rewards.combinations import WeightedSum
from steer.sampling.hooks import make_run
from steer.sampling.state import State
from steer_fk.method import FK
from steer_fk.options import FKOptions

pytestmark = pytest.mark.slow  # moments to four standard errors take populations of thousands

STEPS = 10
# A potential that tilts far beyond the target on the way (add, rt) must be undone by its last factor, whose
# weights are heavy-tailed: no estimate has a standard error to speak of then, so those tilt less and later.
SETUP: dict[str, dict[str, Any]] = {
    "diff": {"lambda": 3.0, "at": (2, 4, 6, 8)},
    "max": {"lambda": 2.0, "at": (4, 6, 8), "reward_min": -10.0},
    "add": {"lambda": 1.3, "at": (5, 8)},
    "rt": {"lambda": 2.0, "at": (5, 8)},
    "adaptive": {"lambda": 2.0, "at": (4, 6, 8), "ess_target": 0.8},
}
SLOPE = np.array([0.6, -0.8])  # linear reward: SLOPE · x
CENTER, PRECISION = np.array([1.2, 0.4]), np.array([[1.0, 0.3], [0.3, 0.6]])  # quadratic: −½ (x−c)ᵀ P (x−c)
KINDS = ("linear", "quadratic")


def reward(samples: torch.Tensor, prompts: Sequence[Prompt]) -> torch.Tensor:
    x = samples.double()
    off = x - torch.from_numpy(CENTER)
    quadratic = -0.5 * ((off @ torch.from_numpy(PRECISION)) * off).sum(1)
    linear = x @ torch.from_numpy(SLOPE)
    is_linear = torch.tensor([prompt.category == "linear" for prompt in prompts])
    return torch.where(is_linear, linear, quadratic)


def tilted(kind: str, lam: float, own: Moments | None = None) -> np.ndarray:
    """Return mean (2), covariance (xx, xy, yy) and log Z of the chain's own N(mean, covariance)·exp(λ r)."""
    mean, covariance = own_chain() if own is None else own
    if kind == "linear":
        push = covariance @ SLOPE
        log_z = lam * SLOPE @ mean + 0.5 * lam**2 * SLOPE @ push
        return np.array([*(mean + lam * push), *covariance[np.triu_indices(2)], log_z])
    inverse = np.linalg.inv(covariance)
    new = np.linalg.inv(inverse + lam * PRECISION)
    off = mean - CENTER
    spread = np.linalg.inv(covariance + np.linalg.inv(lam * PRECISION))
    log_z = -0.5 * np.linalg.slogdet(np.eye(2) + lam * covariance @ PRECISION)[1] - 0.5 * off @ spread @ off
    return np.array([*(new @ (inverse @ mean + lam * PRECISION @ CENTER)), *new[np.triu_indices(2)], log_z])


def scheduler(name: str):
    cls = {"ddim": DDIMScheduler, "ddpm": DDPMScheduler}[name]
    return cls(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012, clip_sample=False)


def own_chain() -> tuple[np.ndarray, np.ndarray]:
    ddim = scheduler("ddim")
    ddim.set_timesteps(STEPS)
    return chain([vp(float(ddim.alphas_cumprod[t])) for t in ddim.timesteps])[-1]


def sample(
    particles: int, replicates: int, *, name: str = "ddim", potential: str = "diff", settings: Any = None, **options
) -> State:
    prompts = [Prompt(kind, id=f"{kind}-{i}", category=kind) for kind in KINDS for i in range(replicates)]
    rows = len(prompts) * particles  # a chunk that is not full is padded
    run = make_run(
        LinearGaussian(scheduler(name)),
        prompts,
        settings={"particles": particles, "chunk": min(rows, 65_536), "steps": STEPS, "eta": 1.0, **(settings or {})},
        methods=[FK(FKOptions(**{"potential": potential, **SETUP[potential], **options}))],
        reward=WeightedSum([("r", 1.0, reward)]),
    )
    return run.search()


def estimates(state: State) -> dict[str, np.ndarray]:
    """Return [replicates, 6] of each kind: weighted mean, covariance and log Z of every population."""
    found: dict[str, list[np.ndarray]] = {kind: [] for kind in KINDS}
    for index, job in enumerate(state.jobs):
        rows = state.rows_of(index)
        x, log_weight = state.x[rows].double().numpy(), state.log_weight[rows].numpy()
        weights = np.exp(log_weight - log_weight.max())
        log_z = log_weight.max() + np.log(weights.mean())
        weights /= weights.sum()
        mean = weights @ x
        covariance = (x - mean).T @ ((x - mean) * weights[:, None])
        found[job.prompt.category].append(np.array([*mean, *covariance[np.triu_indices(2)], log_z]))
    return {kind: np.array(values) for kind, values in found.items()}


@pytest.fixture
def one_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("steer.sampling.run.Streams", OneStream)


def errors_in_se(state: State, potential: str = "diff", own: Moments | None = None) -> float:
    """Return the largest deviation from the truth in standard errors, taken over independent populations."""
    worst = 0.0
    for kind, values in estimates(state).items():
        truth = tilted(kind, SETUP[potential]["lambda"], own)
        error = values.std(axis=0, ddof=1) / np.sqrt(len(values))
        worst = max(worst, float((np.abs(values.mean(axis=0) - truth) / error).max()))
    return worst


@pytest.mark.parametrize(
    ("potential", "scheme", "ess_threshold"),
    [
        *((potential, "systematic", 1.0) for potential in ("diff", "max", "add", "rt")),
        ("diff", "systematic", 0.5),
        ("diff", "residual", 1.0),
        *(
            pytest.param(*case, marks=pytest.mark.thorough)
            for case in (
                *((potential, "systematic", 0.5) for potential in ("max", "add", "rt")),
                *(("diff", scheme, 1.0) for scheme in ("multinomial", "stratified")),
                ("adaptive", "systematic", 1.0),
            )
        ),
    ],
)
def test_tilted_moments_and_log_z_agree_with_the_closed_form(
    potential, scheme, ess_threshold, one_stream, record_testsuite_property
) -> None:
    state = sample(2048, 32, potential=potential, scheme=scheme, ess_threshold=ess_threshold)
    worst = errors_in_se(state, potential)
    record_testsuite_property(f"SE {potential} {scheme} {ess_threshold}", round(worst, 2))
    assert worst < 4
    resampled = sum(sum(event.data["resampled"]) for event in state.events if event.kind == "fk")
    assert resampled > 0
    assert not state.biased


@pytest.mark.parametrize("name", ["ddim", pytest.param("ddpm", marks=pytest.mark.thorough)])
def test_with_the_slots_own_streams_too(name) -> None:
    assert errors_in_se(sample(1024, 12, name=name)) < 4


def test_a_funnel_keeps_log_z_and_the_moments(one_stream) -> None:
    state = sample(2048, 32, keep=0.6, min_entropy=0.9)
    assert errors_in_se(state) < 4
    assert [len(state.rows_of(job)) for job in range(2)] == [266, 266]  # 2048 · 0.6⁴, each time rounded up
    assert not state.biased


@pytest.mark.parametrize(
    ("potential", "at"),
    [("diff", (1, 3, 5, 8)), pytest.param("adaptive", (3, 4, 5, 8), marks=pytest.mark.thorough)],
)
def test_a_funnel_within_transitions_too(potential, at, one_stream) -> None:
    """Copies between the transitions, and draws without copies within them."""
    state = sample(2048, 32, potential=potential, keep=0.6, at=at, settings={"transitions": 2})
    assert errors_in_se(state, potential, own=affine_moments(LinearGaussian(scheduler("ddim")), STEPS, 2)) < 4
    assert len(state.rows_of(0)) == 266
    assert not state.biased


def test_transitions_from_ode_steps_too(one_stream) -> None:
    """GLASS: methods act between the transitions, and the samples' own law is known exactly."""
    state = sample(4096, 16, settings={"steps": 20, "transitions": 5}, at=(4, 8, 12, 16))
    own = affine_moments(LinearGaussian(scheduler("ddim")), 20, 5)
    assert errors_in_se(state, own=own) < 4
    assert sum(sum(event.data["resampled"]) for event in state.events if event.kind == "fk") > 0


def test_without_steering_the_chain_itself_is_as_computed(one_stream) -> None:
    mean, covariance = own_chain()
    run = make_run(
        LinearGaussian(scheduler("ddim")), [Prompt("plain", seed=3)],
        settings={"particles": 65_536, "chunk": 65_536, "steps": STEPS, "eta": 1.0},
    )  # fmt: skip
    x = run.search().x.double().numpy()
    assert np.abs(x.mean(0) - mean).max() < 4 * np.sqrt(covariance.diagonal().max() / len(x))
    assert np.abs(np.cov(x.T) - covariance).max() < 4 * covariance.max() * np.sqrt(2 / len(x))


@pytest.mark.parametrize(
    ("potential", "scheme"),
    [
        ("diff", "systematic"),
        pytest.param("max", "multinomial", marks=pytest.mark.thorough),
        pytest.param("add", "residual", marks=pytest.mark.thorough),
    ],
)
def test_the_error_falls_as_one_over_the_square_root_of_particles(
    potential, scheme, one_stream, record_testsuite_property
) -> None:
    counts, rmse = [64, 256, 1024, 4096], []
    for particles in counts:
        values = estimates(sample(particles, 48 if particles < 4096 else 24, potential=potential, scheme=scheme))
        truth = {kind: tilted(kind, SETUP[potential]["lambda"]) for kind in KINDS}
        scaled = [(values[kind] - truth[kind]) / np.maximum(np.abs(truth[kind]), 0.2) for kind in KINDS]
        rmse.append(np.sqrt(np.mean(np.square(scaled))))
    slope = np.polyfit(np.log(counts), np.log(rmse), 1)[0]
    record_testsuite_property(f"slope {potential} {scheme}", round(slope, 3))
    assert abs(slope + 0.5) < 0.12


def test_a_wrong_weight_would_show(one_stream, monkeypatch: pytest.MonkeyPatch) -> None:
    """The reference implementation's fault, put in on purpose: the test above has the power to see it."""
    original = FK._resample

    def drops_the_weight_when_it_does_not_resample(self, state) -> None:
        before = len(state.events)
        original(self, state)
        note = next(event for event in state.events[before:] if event.kind == "fk")
        for job, done in enumerate(note.data["resampled"]):
            if not done:
                state.log_weight[state.rows_of(job)] = 0.0

    monkeypatch.setattr(FK, "_resample", drops_the_weight_when_it_does_not_resample)
    assert errors_in_se(sample(4096, 16, ess_threshold=0.5)) > 10


def test_moderate_populations_of_several_prompts_do_not_mix() -> None:
    together = sample(64, 2, settings={"chunk": 64})
    alone = sample(64, 1, settings={"chunk": 64})
    rows, single = together.rows_of(2), alone.rows_of(1)
    assert together.jobs[2].prompt.id == alone.jobs[1].prompt.id == "quadratic-0"
    assert torch.equal(together.log_weight[rows], alone.log_weight[single])
    assert torch.allclose(together.x[rows], alone.x[single], atol=1e-6)


def test_every_potential_multiplies_to_the_same_target() -> None:
    """Without any resampling all four are one importance sampler: weights exp(λ r_0)."""
    plain = None
    for potential, setup in SETUP.items():
        state = sample(32, 1, potential=potential, ess_threshold=0.0)
        assert torch.allclose(state.log_weight, setup["lambda"] * state.rewards(), atol=1e-9)
        plain = state.x if plain is None else plain
        assert torch.equal(state.x, plain)
