"""``Timetable``: the steps at which a method acts, and those at shares of a run."""

from collections.abc import Iterable, Sequence

from steer.sampling.state import State


class Timetable:
    """Steps at which a method acts, by the steps done before.

    A due action within a step of a second-order scheduler waits for the next step to begin, when x0 is best known.
    """

    def __init__(self, steps: Iterable[int]) -> None:
        """Args: steps: each 0..steps−1 of the run; others never come."""
        self._steps = frozenset(steps)
        self._waiting = False

    def __bool__(self) -> bool:
        return bool(self._steps)

    def due(self, state: State) -> bool:
        """Whether to act now; asked once per step, in ``after_predict``."""
        self._waiting |= state.step in self._steps
        if not (self._waiting and state.whole):
            return False
        self._waiting = False
        return True


def steps_at(shares: Sequence[float], state: State) -> list[int]:
    """Return the steps of the schedule at which shares of a run's steps are done; for ``begin``.

    A run that begins with a picture takes only the last steps of its schedule.

    Args:
        shares: increasing, each in [0, 1]; 1 means the last step. Two that are rounded to one step take the next as
            well, if there is one.
    """
    left, found = state.steps - state.step, [-1]
    for share in shares:
        found.append(min(max(round(share * left), found[-1] + 1), left - 1))
    return [state.step + step for step in found[1:]]
