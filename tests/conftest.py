"""What all tests share. Nothing is downloaded: hub clients are told so before they are imported.

No torch and nothing that imports it: the process that hands tests out to workers needs none, and they wait for it.
"""

from __future__ import annotations

import gc
import os
import signal

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TRANSFORMERS_OFFLINE"] = "1"
os.environ["OMP_NUM_THREADS"] = "1"
# a GPU would be the default device, in half precision; benchmarks/gpu.py shows it to the tests that name it
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as for what a shell starts in the background: `make test &`
    signal.signal(signal.SIGINT, signal.default_int_handler)

import pytest
from support.marks import mark

pytest_plugins = ["support.browser", "support.commands"]


@pytest.fixture(scope="session")
def tiny_pipe():
    """A tiny random ε-prediction pipeline, shared: never change it."""
    from support.tiny import tiny_sd

    return tiny_sd()


@pytest.fixture(scope="session")
def tiny_pipe_v():
    """The same with v-prediction."""
    from support.tiny import tiny_sd

    return tiny_sd("v_prediction")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what needs processes, a browser or a training, before ``-m`` selects by it."""
    for item in items:
        if isinstance(item, pytest.Function):
            mark(item)


def pytest_collection_finish() -> None:
    """Spare the garbage collector the objects of imported modules: looking at them all takes half a second."""
    gc.freeze()


UNTESTED = {
    "no Chromium found": "THE PAGE WAS NOT TESTED: no Chromium found; apt-get install chromium chromium-driver",
    "COMFYUI is not set": "THE NODES WERE NOT TESTED IN COMFYUI: set COMFYUI to a checkout of it, and install its "
    "requirements",
}
"""What to say loudly if a test was skipped for a reason."""


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say loudly what went untested."""
    skipped = [str(report.longrepr) for report in terminalreporter.stats.get("skipped", [])]
    for reason, text in UNTESTED.items():
        if any(reason in one for one in skipped):
            terminalreporter.write_sep("!", text, red=True, bold=True)
