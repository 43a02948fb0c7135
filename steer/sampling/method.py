"""The base of method plugins."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from steer.errors import SteerError
from steer.registry.registration import RUN_HOOKS
from steer.settings import options as declarations

if TYPE_CHECKING:
    from steer.rewards.reward import WeightedSum
    from steer.sampling.run import Run


class Method:
    """A way of steering: sees the state through hooks and knows no model family.

    A subclass names itself, declares its options and implements hooks of :mod:`steer.sampling.hooks`, each marked
    ``@steer.hookimpl``. One instance lives for one run; whatever belongs to particles goes into
    ``state.extra``, so that it follows them when they are resampled.

    How large it is, and what may make it larger or smaller, it declares too: ``steer compare`` fits methods to equal
    budgets by that, and knows of no method more than it declares.

    Attributes:
        name: the method's name, used in options (``-o name.option=value``) and messages.
        Options: the declaration of its options.
        size_option: the option that says how many samples or particles per prompt are drawn in all; ``None`` if the
            run's ``particles`` alone does.
        budget_option: the option that bounds denoiser evaluations per prompt, guidance counted as two; ``None`` if
            the method keeps to no such bound by itself.
        clock_option: the option that bounds seconds per prompt, if it has one.
        least_particles: the fewest particles per prompt that it works with.
    """

    name: ClassVar[str] = "method"
    Options: ClassVar[type[declarations.Options]] = declarations.Options
    size_option: ClassVar[str | None] = None
    budget_option: ClassVar[str | None] = None
    clock_option: ClassVar[str | None] = None
    least_particles: ClassVar[int] = 1

    def __init_subclass__(cls, **keywords: Any) -> None:
        """Raise for a declaration that names an option which the method does not have."""
        super().__init_subclass__(**keywords)
        known = {row.name for row in declarations.describe(cls.Options)}
        for declared, option in cls.sizing().items():
            if isinstance(option, str) and option not in known:
                raise SteerError(
                    f"method {cls.name!r} declares {declared}={option!r}, which is none of its options "
                    f"({', '.join(sorted(known)) or 'none'}); declare one of them, or None"
                )

    def __init__(self, options: declarations.Options | None = None) -> None:
        """Args: options: validated options, or ``None`` for the defaults."""
        self.options = options if options is not None else self.Options()

    @classmethod
    def sizing(cls) -> dict[str, str | int | None]:
        """Return what is declared of the method's size, by the attribute's name."""
        return {
            "size_option": cls.size_option,
            "budget_option": cls.budget_option,
            "clock_option": cls.clock_option,
            "least_particles": cls.least_particles,
        }

    def require_reward(self, run: Run, what_for: str = "choose by") -> WeightedSum:
        """Return the run's reward.

        Args:
            run: the run.
            what_for: what the method needs it to do, for the message.

        Raises:
            SteerError: if it has none.
        """
        if run.reward is None:
            raise SteerError(
                f"{self.name} needs a reward to {what_for}; name one with --reward (steer plugins lists them)"
            )
        return run.reward

    def ask_for_particles(self, run: Run) -> None:
        """Have a run draw as many particles per prompt as :attr:`size_option` says; what the user asks for goes first.

        Raises:
            SteerError: for fewer than :attr:`least_particles`, or if the user asks for one number and the option for
                another.
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
        """Return options that make this prompt's result again, where those given would not.

        What a clock decided (a budget in seconds) or a file held stands in the recipe as what it came to.

        Args:
            job: index into the run's prompts.
        """
        return {}


def acting_hooks(methods: Iterable[Method]) -> set[str]:
    """Return the hooks by which some of these methods act on particles: what they choose and watch leaves those be."""
    return {
        hook
        for hook in RUN_HOOKS
        if hook not in ("configure", "after_round")
        for method in methods
        if getattr(method, hook, None) is not None
    }
