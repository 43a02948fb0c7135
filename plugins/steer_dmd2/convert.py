"""``steer convert dmd2``: store a student as differences to its model, for half the size."""

from pathlib import Path

import click

from steer.plugin import force_option, log_option


@click.command()
@click.argument("student", type=click.Path(path_type=Path))
@click.option("-m", "--model", required=True, metavar="NAME|FOLDER|ID", help="The model that it was distilled from.")
@click.option("--bits", type=click.IntRange(2, 8), default=8, show_default=True,
              help="Of each weight; all take 8 in the file, an archive packs the unused ones.")  # fmt: skip
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Folder of the new student.")
@force_option
@log_option
def command(student: Path, model: str, bits: int, out: Path, force: bool) -> None:
    """Store STUDENT, a folder of steer train dmd2 with all weights, as differences to its model in BITS bits.

    Each matrix and kernel has one scale per output channel. The result is used like STUDENT, also with fine-tunes of
    the model: there the differences are added to the fine-tune's weights.
    """
    # imported here: help should not wait for torch
    from dataclasses import replace

    import torch
    from safetensors.torch import save_file

    from steer import Sampler, SteerError
    from steer.plugin import claim, quiet_libraries
    from steer.training import write_whole
    from steer_dmd2.differences import differences
    from steer_dmd2.loading import choose, denoiser
    from steer_dmd2.options import DMD2Options
    from steer_dmd2.student import CARD, WEIGHTS, plain_name, read_card, write_card

    student, out = student.expanduser(), out.expanduser()
    if out.resolve() == student.resolve():
        raise SteerError(f"got --out {out}, the student itself, which would be lost; choose another folder")
    if not student.is_dir():
        raise SteerError(f"{student} is not a folder; expected one written by `steer train dmd2` (OUT/student)")
    card = read_card(student)
    if card.form != "unet":
        raise SteerError(f"student {student} holds {card.form} weights, which are small; expected all weights (unet)")
    quiet_libraries()
    backbone = Sampler(model, device="cpu", dtype="fp32").backbone
    chosen = choose(DMD2Options(student=str(student), steps=None, timesteps=None, weights=None), backbone)
    weights = denoiser(chosen, backbone, chosen.file()).state_dict()
    stored = differences(weights, backbone.denoisers["base"].state_dict(), bits)
    stored = {name: value.contiguous() for name, value in stored.items()}
    for name, value in stored.items():
        if not bool(torch.isfinite(value).all()):
            raise SteerError(f"student {student}: {name} is not finite, or differs from the model's by more than 65504")
    claim(out, {WEIGHTS, CARD}.__contains__, force=force)
    out.mkdir(parents=True, exist_ok=True)
    write_whole(out / WEIGHTS, lambda path: save_file(stored, path))
    write_card(replace(card, form="difference", base=plain_name(model)), out)
    before, after = ((folder / WEIGHTS).stat().st_size for folder in (student, out))
    click.echo(f"student: {out}, {after / 1e6:.1f} MB for {before / 1e6:.1f} MB (-p dmd2 -o dmd2.student={out})")
