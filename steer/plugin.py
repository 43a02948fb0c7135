"""Names for plugin authors, besides those of :mod:`steer`, :mod:`steer.testing` and :mod:`steer.training`."""

from typing import TYPE_CHECKING

from steer.registry.facade import lazily

if TYPE_CHECKING:  # imported at first use: listing plugins or printing help must not wait for torch
    # isort: off
    # Registering
    from steer.registry.registry import Registry as Registry  # the argument of `steer_register(registry)`
    from steer.registry.plugins import Plugins as Plugins  # all plugins of a process
    from steer.registry.plugins import manager as manager  # the plugins of this process
    from steer.registry.declarations import Weights as Weights  # a file of weights that a plugin needs
    from steer.registry.declarations import Repository as Repository  # a whole repository that a plugin needs
    from steer.registry.declarations import Needed as Needed  # either of the two
    from steer.registry.declarations import Input as Input  # an input of models besides the text

    # Messages
    from steer.errors import message_of as message_of  # another library's error on one line
    from steer.errors import nearest as nearest  # a suggestion for a misspelled name
    from steer.errors import unknown as unknown  # the error for an unknown name

    # Methods
    from steer.sampling.run import Run as Run  # the denoising loop for a pack of prompts
    from steer.sampling.start import Start as Start  # the rows of a fresh population: prompts, slots, noise
    from steer.sampling.events import Event as Event  # an event, for traces
    from steer.sampling.budget import Budget as Budget  # the evaluations and seconds left to a search
    from steer.sampling.budget import outer_search as outer_search  # the search around a method, if any
    from steer.sampling.budget import refuse_inner_clock as refuse_inner_clock  # an inner search has no time limit
    from steer.sampling.hooks import make_run as make_run  # a run with its methods
    from steer.sampling.hooks import methods_of as methods_of  # a run's methods, outermost first
    from steer.sampling.hooks import outside as outside  # the methods named before one
    from steer.sampling.hooks import within as within  # the methods named after one
    from steer.sampling.method import acting_hooks as acting_hooks  # the hooks by which methods act on particles
    from steer.sampling.lookahead import rollout as rollout  # estimates of the particles' ends, from a few coarse steps
    from steer.sampling.lookahead import rewards_ahead as rewards_ahead  # their rewards
    from steer.sampling.copies import suggest_noise as suggest_noise  # stochastic transitions, for methods that copy
    from steer.sampling.copies import check_diverges as check_diverges  # copies of a particle must come apart
    from steer.sampling.timetable import Timetable as Timetable  # the steps at which a method acts
    from steer.sampling.timetable import steps_at as steps_at  # those at shares of a run
    from steer.sampling.gradients import Gradients as Gradients  # losses and their gradients with respect to the noise
    from steer.sampling.gradients import Merge as Merge  # combines several gradients into one
    from steer.sampling.gradient_by_noise import vjp as vjp  # losses of samples, differentiated by the noise
    from steer.sampling.gradients import check_differentiable as check_differentiable  # samples must have a gradient
    from steer.sampling.gradients import no_gradient as no_gradient  # the error for a reward that is not differentiable
    from steer.sampling.methods_by_name import make_methods as make_methods  # methods by name, with their options
    from steer.sampling.methods_by_name import check_names as check_names  # names and options must be known
    from steer.sampling.methods_by_name import check_owners as check_owners  # options must be of what is used

    # Whole runs
    from steer.sampling.request import SamplingRequest as SamplingRequest  # everything that decides samples
    from steer.render.generate import generate as generate  # samples prompts into a folder
    from steer.render.generate import GenerationWatcher as GenerationWatcher  # sees the progress of that
    from steer.render.renderer import Renderer as Renderer  # renders the missing prompts of a folder
    from steer.render.local import LocalEngine as LocalEngine  # renders in this process
    from steer.render.spec import Spec as Spec  # a render's settings
    from steer.render.spec import tasks_of as tasks_of  # the tasks of prompts: one per independent sample
    from steer.render.watcher import Plan as Plan  # the work of a render
    from steer.render.watcher import Summary as Summary  # the end of a render
    from steer.sampling.trace import event_rows as event_rows  # what events say of one prompt

    # Noise processes
    from steer.processes.process import Process as Process  # the interface of noise processes
    from steer.processes.noise import Streams as Streams  # one generator per slot
    from steer.processes.noise import keyed as keyed  # a generator for everything else
    from steer.processes.gaussian import kernel_mean as kernel_mean  # mean of the Gaussian kernel
    from steer.processes.gaussian import kernel_sd as kernel_sd  # its standard deviation
    from steer.processes.glass import Transition as Transition  # a stochastic transition as an ODE (GLASS)
    from steer.processes.glass import transition_ends as transition_ends  # which evaluations each transition takes
    from steer.processes.rows import taking as taking  # rows of tensors on any device

    # Models
    from steer.models.backbone import Backbone as Backbone  # the interface of model families
    from steer.models.encoded_prompts import Conditioning as Conditioning  # encoded prompts
    from steer.processes.schedulers import scheduler_kind as scheduler_kind  # flow, diffusion, …: of a scheduler
    from steer.models.encoded_prompts import Encoded as Encoded  # one encoded prompt
    from steer.models.stock.networks import replaced_attribute as replaced_attribute  # of a module, for a while
    from steer.models.weaker import Weaker as Weaker  # guidance away from a prediction that is worse on purpose
    from steer.models.weaker import Predict as Predict  # calls the denoiser for it
    from steer.models.families.sd import StableDiffusion as StableDiffusion  # the family to derive a similar one from
    from steer.models.load import load_model as load_model  # a model by name, folder or hub id
    from steer.models.quantize import quantized as quantized  # whether weights of a module are quantized
    from steer.models.device import pick_device as pick_device  # the device to use
    from steer.models.device import in_double as in_double  # in fp64, on a device that has it
    from steer.models.device import pick_dtype as pick_dtype  # the precision to use
    from steer.models.device import DTYPES as DTYPES  # precisions by name
    from steer.models.device import computes_bf16 as computes_bf16  # whether a device computes in bfloat16 natively
    from steer.models.media.text import Texts as Texts  # samples that are texts
    from steer.models.media.video import Videos as Videos  # samples that are videos

    # Weights
    from steer.models.denoisers import Denoiser as Denoiser  # other weights of a model, named in `configure`
    from steer.models.downloads.weights import locate as locate  # the path of declared weights, fetched if need be
    from steer.models.downloads.weights import at_hand as at_hand  # the same, or `None` if they are not fetched yet
    from steer.models.downloads.checkpoints import read_tensors as read_tensors  # tensors of a file; runs no code of it
    from steer.models.downloads.checkpoints import shapes_of as shapes_of  # their shapes, without loading them
    from steer.models.downloads.checkpoints import mismatch as mismatch  # how shapes differ from a model's
    from steer.models.downloads.source import Source as Source  # a name given by the user: a file, a folder or a hub id
    from steer.models.pretrained import pretrained as pretrained  # a model of transformers and its processor
    from steer.models.downloads import hub as hub  # the hub: `reachable`, `cached_file`, `fetch`

    # Rewards
    from steer.rewards.reward import RewardFunction as RewardFunction  # anything callable as `reward(samples, prompts)`
    from steer.rewards.combinations import Combination as Combination  # a reward made of others
    from steer.rewards.combinations import WeightedSum as WeightedSum  # several rewards as one
    from steer.rewards.resizing import resized as resized  # images of another size; the gradient is repeatable
    from steer.models.fingerprints import fingerprint as fingerprint  # a digest of a module's weights
    from steer.rewards.combinations import Scaled as Scaled  # a reward in units of its own spread
    from steer.rewards.checked import checked as checked  # a reward's scores, checked
    from steer.rewards.combinations import without_gradient as without_gradient  # the part that has no gradient
    from steer.rewards.expressions import parse_expression as parse_expression  # the terms of `shapes:1+clip:0.5`
    from steer.rewards.expressions import leaves as leaves  # all rewards named in an expression
    from steer.rewards.by_name import make_reward as make_reward  # a reward by its expression
    from steer.rewards.by_name import check_modalities as check_modalities  # rewards must score what the model makes

    # Prompts and images
    from steer.prompts.rows import as_row as as_row  # a prompt as plain data
    from steer.prompts.rows import from_row as from_row  # a prompt from plain data
    from steer.models.stock.inputs import with_inputs as with_inputs  # prompts with the inputs of a pipeline's call
    from steer.prompts.files import PROMPT_SUFFIXES as PROMPT_SUFFIXES  # endings of prompt files
    from steer.prompts.prompt import check_seed as check_seed  # checks that a seed is in range
    from steer.prompts.prompt import text_id as text_id  # the id of a text
    from steer.settings.run_settings import parse_size as parse_size  # width and height of `512x768`
    from steer.settings.run_settings import TYPED as TYPED  # the settings of runs that users type, by their keys
    from steer.prompts.pictures.opening import ImageError as ImageError  # the error for a file that is no image
    from steer.evaluate.score.images import read_image as read_image  # pixels of an untrusted image file
    from steer.evaluate.score.images import find_images as find_images  # image files in files and folders
    from steer.evaluate.score.layouts import read_metadata as read_metadata  # prompts by image, of an imagefolder
    from steer.models.media.image import pictures as pictures  # image samples as pictures
    from steer.models.media.image import image_bytes as image_bytes  # a picture as an image file
    from steer.prompts.pictures.opening import IMAGE_SUFFIXES as IMAGE_SUFFIXES  # endings of image files
    from steer.prompts.pictures.opening import opened_image as opened_image  # image bytes from anywhere, checked

    # Benchmarks
    from steer.evaluate.bench.benchmark import Benchmark as Benchmark  # prompts, judges, aggregation, known figures
    from steer.evaluate.bench.benchmark import Measure as Measure  # one figure per group of prompts, and a main one
    from steer.evaluate.bench.benchmark import PromptFile as PromptFile  # a published prompt file with its checksum
    from steer.evaluate.bench.benchmark import Published as Published  # figures from the literature
    from steer.evaluate.bench.benchmark import by_category as by_category  # a score under its prompt's category
    from steer.prompts.files import parse_prompts as parse_prompts  # the prompts in a file's bytes

    # Measures
    from steer.evaluate.measure.labels import confusion as confusion  # pixels of each true label by their found one
    from steer.evaluate.measure.labels import ious as ious  # intersection over union of each label
    from steer.evaluate.measure.labels import mean_iou as mean_iou  # its mean over the labels that are there
    from steer.evaluate.measure.labels import over_images as over_images  # its mean over images, with an interval
    from steer.evaluate.measure.labels import read_mask as read_mask  # a mask file as labels
    from steer.evaluate.measure.labels import classes_of as classes_of  # the class of each file, of a table or a folder
    from steer.evaluate.measure.labels import accuracy as accuracy  # the share of right classes, with an interval

    # Files
    from steer.settings.folders import files_in as files_in  # files below a folder, without hidden ones
    from steer.prompts.reading_options import Reading as Reading  # how a table or a prompt file is read
    from steer.prompts.tables import read_table as read_table  # the rows of a CSV or TSV file, none changed silently
    from steer.settings.text_files import lines_of as lines_of  # a text's lines, as an editor splits it
    from steer.settings.text_files import read_text as read_text  # a small text file in any Unicode encoding
    from steer.settings.strict_json import json_text as json_text  # data as JSON that every parser reads
    from steer.settings.strict_json import read_object as read_object  # the object in a JSON file

    # Output
    from steer.render.page.build import build_page as build_page  # the page of all runs in a folder
    from steer.render.page.build import page_file as page_file  # its styles and scripts, for other pages
    from steer.results.storage.base import StorageError as StorageError  # a place that cannot be written to
    from steer.results.storage import storage_at as storage_at  # a place for files: a folder or an fsspec URL
    from steer.results.sheets import Cell as Cell  # a picture on a contact sheet
    from steer.results.sheets import MAX_CELLS as MAX_CELLS  # pictures on one sheet
    from steer.results.lettering import draw_text as draw_text  # a line of text in any script on a picture
    from steer.results.sheets import contact_sheet as contact_sheet  # many pictures on one
    from steer.results.trace_plot import png as png  # a figure as a PNG file
    from steer.evaluate.statistics import Interval as Interval  # an estimate with its interval
    from steer.evaluate.statistics import percentile_interval as percentile_interval  # an interval of bootstrap draws

    # Commands
    from steer.cli.parts.option_groups import GroupedCommand as GroupedCommand  # help lists its options in groups
    from steer.cli.parts.option_groups import option as option  # an option in a group
    from steer.cli.parts.sampling_options import sampling_options as sampling_options  # model, run and steering
    from steer.cli.parts.sampling_options import gathered as gathered  # values of options, over those of a run file
    from steer.cli.parts.sampling_options import request_of as request_of  # the request that they make, checked
    from steer.cli.parts.config import default_model as default_model  # the model if none is named
    from steer.cli.parts.shared import log_option as log_option  # `--log FILE`
    from steer.settings.options import describe as describe  # a declaration's options in order
    from steer.settings.options import parse_assignments as parse_assignments  # `-o PLUGIN.OPTION=VALUE` by plugin
    from steer.cli.parts.shared import quiet_libraries as quiet_libraries  # turns off bars and notices of libraries
    from steer.cli.parts.folders import default_out as default_out  # a new folder, outputs/TIME
    from steer.cli.parts.folders import claim as claim  # a folder that nothing else writes to; nothing is replaced
    from steer.cli.parts.folders import claim_files as claim_files  # the same for files
    from steer.cli.parts.folders import force_option as force_option  # `--force`, to replace what is there
    from steer.cli.parts.tables import stdout as stdout  # a console that prints text as it is
    from steer.cli.parts.tables import table as table  # a table to print
    from steer.cli.parts.bars import Bar as Bar  # a progress bar
    from steer.cli.parts.listening import listening as listening  # a socket that listens, before anything is loaded
    from steer.cli.parts.streams import json_option as json_option  # `--json`; only `put_json` then writes to stdout
    from steer.cli.parts.streams import csv_option as csv_option  # `--csv`; only `put_csv` then writes to stdout
    from steer.cli.parts.streams import put_json as put_json  # data to stdout as JSON
    from steer.cli.parts.streams import put_csv as put_csv  # rows to stdout as CSV
    from steer.errors import one_line as one_line  # text that is safe to print
    # isort: on

__all__, __getattr__ = lazily(__name__)
