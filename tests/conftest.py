"""What all tests share. Nothing is downloaded: hub clients are told so before they are imported."""

from __future__ import annotations

import os

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TRANSFORMERS_OFFLINE"] = "1"

import pytest
import torch
from support.marks import mark
from support.tiny import tiny_sd

pytest_plugins = ["support.commands"]

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def tiny_pipe():
    """A tiny random ε-prediction pipeline, shared: never change it."""
    return tiny_sd()


@pytest.fixture(scope="session")
def tiny_pipe_v():
    """The same with v-prediction."""
    return tiny_sd("v_prediction")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what needs processes, a browser or a training, before ``-m`` selects by it."""
    for item in items:
        if isinstance(item, pytest.Function):
            mark(item)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say loudly if the page went untested."""
    if any("no Chromium found" in str(report.longrepr) for report in terminalreporter.stats.get("skipped", [])):
        text = "THE PAGE WAS NOT TESTED: no Chromium found; apt-get install chromium chromium-driver"
        terminalreporter.write_sep("!", text, red=True, bold=True)
