"""``Method``: the base class of method plugins."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from steer.errors import SteerError
from steer.registry.registration import RUN_HOOKS
from steer.settings import options as declarations

if TYPE_CHECKING:
    from steer.rewards.combinations import WeightedSum
    from steer.sampling.run import Run


class Method:
    """A way of steering, which sees the state through hooks and depends on no model family.

    A subclass names itself, declares its options and implements hooks of :mod:`steer.sampling.hooks`, each marked
    ``@steer.hookimpl``. One instance lives for one run. Data of particles go into ``state.extra``, so that they follow
    the particles when these are resampled.

    It also declares its size and budget options: ``steer compare`` fits methods to equal budgets by these alone.

    Attributes:
        name: the method's name, used in options (``-o name.option=value``) and messages.
        Options: the declaration of its options.
        size_option: the option that says how many samples or particles per prompt are drawn in all; ``None`` if the
            run's ``particles`` alone does.
        budget_option: the option that bounds denoiser evaluations per prompt, guidance counted as two; ``None`` if
            the method keeps to no such bound by itself.
        clock_option: the option that bounds seconds per prompt, if it has one.
        least_particles: the fewest particles per prompt that it works with.
        independent: whether every particle is what its slot gives without the method, which only chooses among them.
        copies: whether it copies particles, which only noise of their own tells apart.
    """

    name: ClassVar[str] = "method"
    Options: ClassVar[type[declarations.Options]] = declarations.Options
    size_option: ClassVar[str | None] = None
    budget_option: ClassVar[str | None] = None
    clock_option: ClassVar[str | None] = None
    least_particles: ClassVar[int] = 1
    independent: ClassVar[bool] = False
    copies: ClassVar[bool] = False

    def __init_subclass__(cls, **keywords: Any) -> None:
        """Raise if a declaration names an option that the method does not have."""
        super().__init_subclass__(**keywords)
        known = {row.name for row in declarations.describe(cls.Options)}
        for declared, option in cls.sizing().items():
            if isinstance(option, str) and option not in known:
                raise SteerError(
                    f"method {cls.name!r} declares {declared}={option!r}, which is not one of its options "
                    f"({', '.join(sorted(known)) or 'none'}); declare one of them, or None"
                )

    def __init__(self, options: declarations.Options | None = None) -> None:
        """Args: options: validated options, or ``None`` for the defaults."""
        self.options = options if options is not None else self.Options()

    @classmethod
    def sizing(cls) -> dict[str, str | int | None]:
        """Return the declarations of the method's size, by attribute."""
        return {
            "size_option": cls.size_option,
            "budget_option": cls.budget_option,
            "clock_option": cls.clock_option,
            "least_particles": cls.least_particles,
        }

    def require_reward(self, run: Run, what_for: str = "choose by") -> WeightedSum:
        """Return the run's reward.

        Args:
            what_for: the purpose, for the message, as in "choose by".

        Raises:
            SteerError: if it has none.
        """
        if run.reward is None:
            raise SteerError(
                f"{self.name} needs a reward to {what_for}; name one with --reward (steer plugins lists them)"
            )
        return run.reward

    def ask_for_particles(self, run: Run) -> None:
        """Set the run's particles per prompt by :attr:`size_option`; the user's ``--particles`` has priority.

        Raises:
            SteerError: for fewer than :attr:`least_particles`, or if the user's number and the option's differ.
        """
        assert self.size_option is not None, f"{type(self).__name__} declares no size_option"
        count, given = declarations.value_of(self.options, self.size_option)
        (run.set if given else run.suggest)("particles", count, by=self.name)
        if run.particles < self.least_particles:
            raise SteerError(
                f"{self.name} needs at least {self.least_particles} particles per prompt, got {run.particles}; set "
                f"--particles {self.least_particles} or more"
            )

    def replay_options(self, job: int) -> Mapping[str, Any]:
        """Return options that reproduce this prompt's result, if the given ones do not.

        The recipe holds their outcome: the number of samples that a budget in seconds allowed, or a file's content.

        Args:
            job: index into the run's prompts.
        """
        return {}


def acting_hooks(methods: Iterable[Method]) -> set[str]:
    """Return the hooks by which these methods change particles; choosing and watching do not."""
    return {
        hook
        for hook in RUN_HOOKS
        if hook not in ("configure", "after_round")
        for method in methods
        if getattr(method, hook, None) is not None
    }
