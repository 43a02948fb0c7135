"""Copies of a particle: only noise on the way tells them apart."""

from steer.errors import SteerError
from steer.sampling.run import Run
from steer.sampling.state import State


def suggest_noise(run: Run, by: str) -> None:
    """Suggest stochastic transitions if the run's defaults draw no noise; for ``configure`` of a method that copies.

    Args:
        by: the method's name.
    """
    if not run.process().stochastic:
        for name, value in run.backbone.noisy.items():
            run.suggest(name, value, by=by)


def check_diverges(state: State, method: str) -> None:
    """Check that copies of a particle can diverge; for ``begin`` of a method that copies.

    Raises:
        SteerError: if the user's settings leave no noise.
    """
    if state.process.stochastic:
        return
    name, value = next(iter(state.forwards.backbone.noisy.items()))
    others = ", or --scheduler ddpm or euler-a" if name == "eta" else ""
    raise SteerError(
        f"{method} needs a stochastic sampler, got one without noise ({name}=0): copies of a particle would stay "
        f"equal; set --{name} {value:g}{others}"
    )
