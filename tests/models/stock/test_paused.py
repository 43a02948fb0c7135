"""A paused call that nobody goes on with leaves the thread as it was."""

from __future__ import annotations

import gc

import pytest
import torch

from steer.models.stock.paused import Paused, ask


def _call() -> None:
    with torch.no_grad():
        ask("anything?")


@pytest.mark.parametrize("begun_in_grad", [True, False])
def test_a_dropped_call_leaves_the_mode_of_gradients(begun_in_grad: bool) -> None:
    with torch.set_grad_enabled(begun_in_grad):
        call = Paused(_call)
        assert call.resume() == "anything?"
    for mode in (True, False):
        with torch.set_grad_enabled(mode):
            assert torch.is_grad_enabled() is mode
    del call
    gc.collect()
    assert torch.is_grad_enabled()
