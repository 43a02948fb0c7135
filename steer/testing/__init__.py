"""Checks of a reward's contract, for ``steer check reward`` and for a plugin's own tests.

In a test::

    from steer.testing import check_reward

    def test_my_reward_keeps_the_contract():
        check_reward(MyReward()).require()
"""

from steer.testing.checks import Check, Report, check_reward, example_samples

__all__ = ["Check", "Report", "check_reward", "example_samples"]
