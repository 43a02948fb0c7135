"""Names for plugin authors, besides those of :mod:`steer`, :mod:`steer.testing` and :mod:`steer.training`."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from steer.cli.parts.bars import Bar as Bar
    from steer.cli.parts.shared import log_option as log_option
    from steer.cli.parts.shared import quiet_libraries as quiet_libraries
    from steer.cli.parts.streams import csv_option as csv_option
    from steer.cli.parts.streams import json_option as json_option
    from steer.cli.parts.streams import put_csv as put_csv
    from steer.cli.parts.streams import put_json as put_json
    from steer.cli.parts.tables import stdout as stdout
    from steer.cli.parts.tables import table as table
    from steer.errors import message_of as message_of
    from steer.errors import nearest as nearest
    from steer.errors import one_line as one_line
    from steer.errors import unknown as unknown
    from steer.evaluate.score.images import IMAGE_SUFFIXES as IMAGE_SUFFIXES
    from steer.evaluate.score.images import ImageError as ImageError
    from steer.evaluate.score.images import find_images as find_images
    from steer.evaluate.score.images import opened_image as opened_image
    from steer.evaluate.score.images import read_image as read_image
    from steer.evaluate.statistics import Interval as Interval
    from steer.evaluate.statistics import percentile_interval as percentile_interval
    from steer.models.backbone import Backbone as Backbone
    from steer.models.backbone import Conditioning as Conditioning
    from steer.models.backbone import Encoded as Encoded
    from steer.models.denoisers import Denoiser as Denoiser
    from steer.models.device import DTYPES as DTYPES
    from steer.models.device import computes_bf16 as computes_bf16
    from steer.models.device import pick_device as pick_device
    from steer.models.device import pick_dtype as pick_dtype
    from steer.models.downloads import hub as hub
    from steer.models.downloads.checkpoints import mismatch as mismatch
    from steer.models.downloads.checkpoints import read_tensors as read_tensors
    from steer.models.downloads.source import Source as Source
    from steer.models.downloads.weights import at_hand as at_hand
    from steer.models.downloads.weights import locate as locate
    from steer.models.families.sd import StableDiffusion as StableDiffusion
    from steer.models.load import load_model as load_model
    from steer.models.media.image import image_bytes as image_bytes
    from steer.models.media.image import pictures as pictures
    from steer.models.media.text import Texts as Texts
    from steer.processes.gaussian import kernel_mean as kernel_mean
    from steer.processes.gaussian import kernel_sd as kernel_sd
    from steer.processes.noise import Streams as Streams
    from steer.processes.noise import keyed as keyed
    from steer.processes.process import Process as Process
    from steer.prompts.files import PROMPT_SUFFIXES as PROMPT_SUFFIXES
    from steer.prompts.prompt import check_seed as check_seed
    from steer.prompts.prompt import text_id as text_id
    from steer.registry.declarations import Input as Input
    from steer.registry.declarations import Needed as Needed
    from steer.registry.declarations import Repository as Repository
    from steer.registry.declarations import Weights as Weights
    from steer.registry.plugins import Plugins as Plugins
    from steer.registry.plugins import manager as manager
    from steer.registry.registry import Registry as Registry
    from steer.results.lettering import draw_text as draw_text
    from steer.results.sheets import MAX_CELLS as MAX_CELLS
    from steer.results.sheets import Cell as Cell
    from steer.results.sheets import contact_sheet as contact_sheet
    from steer.results.storage import storage_at as storage_at
    from steer.results.trace_plot import png as png
    from steer.rewards.by_name import check_modalities as check_modalities
    from steer.rewards.by_name import make_reward as make_reward
    from steer.rewards.expressions import leaves as leaves
    from steer.rewards.expressions import parse_expression as parse_expression
    from steer.rewards.reward import RewardFunction as RewardFunction
    from steer.rewards.reward import Scaled as Scaled
    from steer.rewards.reward import WeightedSum as WeightedSum
    from steer.rewards.reward import checked as checked
    from steer.rewards.reward import without_gradient as without_gradient
    from steer.sampling.budget import Budget as Budget
    from steer.sampling.budget import outer_search as outer_search
    from steer.sampling.budget import refuse_inner_clock as refuse_inner_clock
    from steer.sampling.events import Event as Event
    from steer.sampling.gradients import Gradients as Gradients
    from steer.sampling.gradients import Merge as Merge
    from steer.sampling.gradients import check_differentiable as check_differentiable
    from steer.sampling.gradients import no_gradient as no_gradient
    from steer.sampling.hooks import make_run as make_run
    from steer.sampling.hooks import methods_of as methods_of
    from steer.sampling.hooks import outside as outside
    from steer.sampling.hooks import within as within
    from steer.sampling.lookahead import rewards_ahead as rewards_ahead
    from steer.sampling.lookahead import rollout as rollout
    from steer.sampling.method import acting_hooks as acting_hooks
    from steer.sampling.methods_by_name import check_names as check_names
    from steer.sampling.run import Run as Run
    from steer.sampling.start import Start as Start
    from steer.sampling.timetable import Timetable as Timetable
    from steer.sampling.vjp import vjp as vjp
    from steer.settings.folders import files_in as files_in
    from steer.settings.run_settings import parse_size as parse_size
    from steer.settings.strict_json import json_text as json_text
    from steer.settings.text_files import read_text as read_text

# Loaded at first use: listing plugins or printing help must not wait for torch.
_HOMES = {
    # Registering
    "Registry": "steer.registry.registry",  # the argument of `steer_register(registry)`
    "Plugins": "steer.registry.plugins",  # all plugins of a process
    "manager": "steer.registry.plugins",  # the plugins of this process
    "Weights": "steer.registry.declarations",  # a file of weights that a plugin needs
    "Repository": "steer.registry.declarations",  # a whole repository that a plugin needs
    "Needed": "steer.registry.declarations",  # either of the two
    "Input": "steer.registry.declarations",  # an input of models besides the text
    # Messages
    "message_of": "steer.errors",  # another library's error on one line
    "nearest": "steer.errors",  # a suggestion for a misspelled name
    "unknown": "steer.errors",  # the error for an unknown name
    # Methods
    "Run": "steer.sampling.run",  # the denoising loop for a pack of prompts
    "Start": "steer.sampling.start",  # the rows of a fresh population: prompts, slots, noise
    "Event": "steer.sampling.events",  # an event, for traces
    "Budget": "steer.sampling.budget",  # the evaluations and seconds left to a search
    "outer_search": "steer.sampling.budget",  # the search around a method, if any
    "refuse_inner_clock": "steer.sampling.budget",  # only the outermost search may have a time limit
    "make_run": "steer.sampling.hooks",  # a run with its methods
    "methods_of": "steer.sampling.hooks",  # a run's methods, outermost first
    "outside": "steer.sampling.hooks",  # the methods named before one
    "within": "steer.sampling.hooks",  # the methods named after one
    "acting_hooks": "steer.sampling.method",  # the hooks by which methods act on particles
    "rollout": "steer.sampling.lookahead",  # estimates of the particles' ends, from a few coarse steps
    "rewards_ahead": "steer.sampling.lookahead",  # their rewards
    "Timetable": "steer.sampling.timetable",  # the steps at which a method acts
    "Gradients": "steer.sampling.gradients",  # losses and their gradients with respect to the noise
    "Merge": "steer.sampling.gradients",  # combines several gradients into one
    "vjp": "steer.sampling.vjp",  # losses of samples, differentiated with respect to the noise
    "check_differentiable": "steer.sampling.gradients",  # checks that samples depend smoothly on the noise
    "no_gradient": "steer.sampling.gradients",  # the error for a reward that is not differentiable
    "check_names": "steer.sampling.methods_by_name",  # checks that names and options are known; loads no weights
    # Noise processes
    "Process": "steer.processes.process",  # the interface of noise processes
    "Streams": "steer.processes.noise",  # one generator per slot
    "keyed": "steer.processes.noise",  # a generator for everything else
    "kernel_mean": "steer.processes.gaussian",  # mean of the Gaussian kernel
    "kernel_sd": "steer.processes.gaussian",  # its standard deviation
    # Models
    "Backbone": "steer.models.backbone",  # the interface of model families
    "Conditioning": "steer.models.backbone",  # encoded prompts
    "Encoded": "steer.models.backbone",  # one encoded prompt
    "StableDiffusion": "steer.models.families.sd",  # the family to derive a similar one from
    "load_model": "steer.models.load",  # a model by name, folder or hub id
    "pick_device": "steer.models.device",  # the device to use
    "pick_dtype": "steer.models.device",  # the precision to use
    "DTYPES": "steer.models.device",  # precisions by name
    "computes_bf16": "steer.models.device",  # whether a device computes in bfloat16 natively
    "Texts": "steer.models.media.text",  # samples that are texts
    # Weights
    "Denoiser": "steer.models.denoisers",  # other weights for a model, named in `configure`, read later
    "locate": "steer.models.downloads.weights",  # the local path of declared weights, fetched if need be
    "at_hand": "steer.models.downloads.weights",  # the same, or `None` if they are not fetched yet
    "read_tensors": "steer.models.downloads.checkpoints",  # tensors of an untrusted checkpoint; runs no code of it
    "mismatch": "steer.models.downloads.checkpoints",  # how a checkpoint's shapes differ from a model's
    "Source": "steer.models.downloads.source",  # a name given by the user: a file, a folder or a hub id
    "hub": "steer.models.downloads.hub",  # the hub: `reachable`, `cached_file`, `fetch`
    # Rewards
    "RewardFunction": "steer.rewards.reward",  # anything callable as `reward(samples, prompts)`
    "WeightedSum": "steer.rewards.reward",  # several rewards as one
    "Scaled": "steer.rewards.reward",  # a reward in units of its own spread
    "checked": "steer.rewards.reward",  # a reward's scores, checked
    "without_gradient": "steer.rewards.reward",  # the name of a reward's part that is not differentiable
    "parse_expression": "steer.rewards.expressions",  # the terms of `shapes:1+clip:0.5`
    "leaves": "steer.rewards.expressions",  # all rewards named in an expression
    "make_reward": "steer.rewards.by_name",  # a reward by its expression
    "check_modalities": "steer.rewards.by_name",  # checks that rewards score the model's modality
    # Prompts and images
    "PROMPT_SUFFIXES": "steer.prompts.files",  # endings of prompt files
    "check_seed": "steer.prompts.prompt",  # checks that a seed is in range
    "text_id": "steer.prompts.prompt",  # the id of a text
    "parse_size": "steer.settings.run_settings",  # width and height of `512x768`
    "ImageError": "steer.evaluate.score.images",  # the error for a file that is not a usable image
    "read_image": "steer.evaluate.score.images",  # pixels of an untrusted image file
    "find_images": "steer.evaluate.score.images",  # image files in files and folders
    "pictures": "steer.models.media.image",  # image samples as pictures
    "image_bytes": "steer.models.media.image",  # a picture as an image file
    "IMAGE_SUFFIXES": "steer.evaluate.score.images",  # endings of image files
    "opened_image": "steer.evaluate.score.images",  # an image in bytes from anywhere, opened and checked
    # Files
    "files_in": "steer.settings.folders",  # files below a folder, without hidden ones
    "read_text": "steer.settings.text_files",  # a small text file in any Unicode encoding
    "json_text": "steer.settings.strict_json",  # data as JSON that every parser reads
    # Output
    "storage_at": "steer.results.storage",  # a place for files: a folder or an fsspec URL
    "Cell": "steer.results.sheets",  # a picture on a contact sheet
    "MAX_CELLS": "steer.results.sheets",  # pictures on one sheet
    "draw_text": "steer.results.lettering",  # a line of text in any script on a picture
    "contact_sheet": "steer.results.sheets",  # many pictures on one
    "png": "steer.results.trace_plot",  # a figure as a PNG file
    "Interval": "steer.evaluate.statistics",  # an estimate with its interval
    "percentile_interval": "steer.evaluate.statistics",  # an interval of bootstrap draws
    # Commands
    "log_option": "steer.cli.parts.shared",  # `--log FILE`
    "quiet_libraries": "steer.cli.parts.shared",  # turns off bars and notices of model libraries
    "stdout": "steer.cli.parts.tables",  # a console that prints text as it is
    "table": "steer.cli.parts.tables",  # a table to print
    "Bar": "steer.cli.parts.bars",  # a progress bar
    "json_option": "steer.cli.parts.streams",  # `--json`; only `put_json` then writes to stdout
    "csv_option": "steer.cli.parts.streams",  # `--csv`; only `put_csv` then writes to stdout
    "put_json": "steer.cli.parts.streams",  # data to stdout as JSON
    "put_csv": "steer.cli.parts.streams",  # rows to stdout as CSV
    "one_line": "steer.errors",  # text that is safe to print
}

__all__ = [*_HOMES]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = importlib.import_module(_HOMES[name])
    return getattr(home, name, home)  # `hub` is a module itself
