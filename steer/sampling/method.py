"""The base of method plugins."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from steer.errors import SteerError
from steer.settings import options as declarations

if TYPE_CHECKING:
    from steer.sampling.run import Run


class Method:
    """A way of steering: sees the state through hooks and knows no model family.

    A subclass names itself, declares its options and implements hooks of :mod:`steer.sampling.hooks`, each marked
    ``@steer.hookimpl``. One instance lives for one run; whatever belongs to particles goes into
    ``state.extra``, so that it follows them when they are resampled.

    Attributes:
        name: the method's name, used in options (``-o name.option=value``) and messages.
        Options: the declaration of its options.
    """

    name: ClassVar[str] = "method"
    Options: ClassVar[type[declarations.Options]] = declarations.Options

    def __init__(self, options: declarations.Options | None = None) -> None:
        """Args: options: validated options, or ``None`` for the defaults."""
        self.options = options if options is not None else self.Options()

    def ask_for_particles(self, run: Run) -> None:
        """Have a run draw ``options.particles`` a prompt, and a reward to compare them by; a user's word goes first.

        Raises:
            SteerError: without a reward, or with a single particle.
        """
        default = type(self.options).model_fields["particles"].default
        if run.reward is None:
            raise SteerError(
                f"{self.name} needs a reward to choose particles by; name one with --reward (steer plugins lists them)"
            )
        particles = self.options.particles  # type: ignore[attr-defined]
        if "particles" in self.options.model_fields_set:
            run.set("particles", particles, by=self.name)
        else:
            run.suggest("particles", particles, by=self.name)
        if run.particles < 2:
            raise SteerError(f"{self.name} needs at least 2 particles, got {run.particles}; set --particles {default}")

    def replay_options(self, job: int) -> Mapping[str, Any]:
        """Return options that make this prompt's result again, where those given would not.

        What a clock decided (a budget in seconds) or a file held stands in the recipe as what it came to.

        Args:
            job: index into the run's prompts.
        """
        return {}


def hooks_of(run: Run, methods: Iterable[Method]) -> set[str]:
    """Return the names of the hooks that some of a run's methods implement."""
    return {caller.name for method in methods for caller in run.hooks.get_hookcallers(method) or ()}
