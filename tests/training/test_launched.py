"""``accelerate launch --mixed_precision`` is obeyed, unless the command itself says otherwise."""

from __future__ import annotations

import click
import pytest
from click.testing import CliRunner

from steer.training.options import TrainingOptions, training_options


@pytest.mark.parametrize(
    ("default", "launched", "given", "precision"),
    [
        ("no", None, None, "no"),
        ("no", "bf16", None, "bf16"),
        ("auto", "fp16", None, "fp16"),
        ("auto", "no", None, "auto"),
        ("no", "bf16", "fp16", "fp16"),
        ("bf16", "fp16", "no", "no"),
    ],
)
def test_the_launchers_precision(default, launched, given, precision) -> None:
    @click.command()
    @training_options(out="runs", precision=default)
    def train(options: TrainingOptions) -> None:
        click.echo(options.precision)

    arguments = [] if given is None else ["--precision", given]
    done = CliRunner().invoke(train, arguments, env={"ACCELERATE_MIXED_PRECISION": launched})
    assert done.output.strip() == precision


def test_a_precision_that_no_training_has_is_told() -> None:
    @click.command()
    @training_options(out="runs")
    def train(options: TrainingOptions) -> None:
        raise AssertionError

    done = CliRunner().invoke(train, [], env={"ACCELERATE_MIXED_PRECISION": "fp8"})
    assert done.exit_code == 2 and "'fp8' is not one of" in done.output
