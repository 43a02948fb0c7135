"""steer: plugin-based sampling and steering of diffusion models. The names here are for users."""

from typing import TYPE_CHECKING

from steer.registry.facade import lazily

if TYPE_CHECKING:  # imported at first use: listing plugins or printing help must not wait for torch
    # isort: off
    # Sampling
    from steer.sampling.sampler import Sampler as Sampler  # a model, ready to be sampled and steered
    from steer.sampling.attach import attach as attach  # steers the calls of a stock pipeline
    from steer.models.options import ModelOptions as ModelOptions  # how `Sampler` loads a model
    from steer.results.result import Result as Result  # what `Sampler.generate` returns
    from steer.results.items import Item as Item  # the result of one prompt
    from steer.results.items import Sample as Sample  # one finished particle
    from steer.prompts.prompt import Prompt as Prompt  # a text with its id, seed, category and settings of its own
    from steer.prompts.files import read_prompts as read_prompts  # reads a prompt file

    # Writing a method or a reward
    from steer.sampling.method import Method as Method  # base of methods
    from steer.rewards.reward import Reward as Reward  # base of rewards
    from steer.settings.options import Options as Options  # base of a plugin's options
    from steer.settings.options import Field as Field  # an option: default, range, description
    from steer.registry.registration import hookimpl as hookimpl  # marks a hook
    from steer.sampling.state import State as State  # a population of particles, as hooks see it

    # Errors
    from steer.errors import SteerError as SteerError  # a user's mistake: one line, no traceback
    from steer.errors import RewardError as RewardError  # a reward that broke its contract
    # isort: on

__all__, __getattr__ = lazily(__name__)
