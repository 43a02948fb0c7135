"""A GPU that a model shares with rewards: what is not at work waits on the CPU if there is no room for all."""

import itertools
from collections.abc import Iterable, Sequence

import torch

from steer.models.backbone import Backbone
from steer.models.room import fits, room_of
from steer.rewards.reward import Reward


class SharedMemory:
    """Decides which parts wait on the CPU; no result depends on it."""

    def __init__(self, backbone: Backbone, rewards: Sequence[Reward]) -> None:
        """Args: rewards: all that score beside the model, on any device."""
        self._backbone, self._rewards = backbone, list(rewards)

    def add(self, rewards: Iterable[Reward]) -> None:
        """Count further rewards, then :meth:`settle`."""
        self._rewards += [reward for reward in dict.fromkeys(rewards) if reward not in self._rewards]
        self.settle()

    def settle(self) -> None:
        """Compare all weights with the room: if they are too large, encoders wait, and then rewards if need be."""
        room = room_of(self._backbone.device)
        if room is None:
            return
        rewards = sum(reward.bytes_held() for reward in self._here())
        if not fits(self._backbone.bytes_held() + rewards, room):
            self._backbone.crowd()
        if not fits(self._backbone.bytes_held() + rewards, room):
            self._let_wait()

    def relieve(self) -> bool:
        """Let more wait, because memory ran out; return whether this made room."""
        return self._backbone.crowd() or self._let_wait()

    def _let_wait(self) -> bool:
        parked = [reward for reward in self._here() if reward.park()]
        for reward in parked:
            reward.waits = True
        return bool(parked)

    def _here(self) -> list[Reward]:
        here = self._backbone.device
        if here.type != "cuda":
            return []
        # a reward with a constructor of its own may have no device
        places = [getattr(reward, "device", torch.device("cpu")) for reward in self._rewards]
        same = [place.type == here.type and (place.index or 0) == (here.index or 0) for place in places]
        return list(itertools.compress(self._rewards, same))
