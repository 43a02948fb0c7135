"""``http``: a reward behind a server, by the contract of docs/judges.md. ``steer serve-reward`` serves any by it."""

import functools
import os
import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import requests
import torch
import urllib3
from torch import Tensor

from steer import Field, Options, Prompt, Reward, RewardError, SteerError
from steer.plugin import message_of, one_line
from steer_judges import protocol
from steer_judges.addresses import checked_url, is_local
from steer_judges.protocol import BadAnswer

T = TypeVar("T")
CONNECTING = 10.0
"""Seconds for a connection."""
LONGEST_WAIT = 8.0
"""Seconds between two tries; the first is half a second, and each is twice the one before."""
SHOWN = 200
"""Letters of a server's answer in a message."""


class HttpOptions(Options):
    """Options of ``http``."""

    url: str | None = Field(
        None, description="Address of the server if the reward names none, such as http://localhost:8100."
    )
    batch: int = Field(16, ge=1, le=1024, description="Samples per request, at most.")
    timeout: float = Field(120.0, gt=0, description="Seconds for one answer.")
    retries: int = Field(6, ge=0, le=20, description="Further tries after a failure or a bad answer.")
    key_variable: str = Field(protocol.KEY_VARIABLE, description="Environment variable with the server's key.")


class Http(Reward):
    """The score that a server gives; not differentiable. Images are sent as PNG, so with 8 bits per channel."""

    modality = None  # the server's
    Options = HttpOptions
    options: HttpOptions

    def prepare(self) -> None:
        """Ask the server what it serves.

        Raises:
            SteerError: if it cannot be asked.
        """
        url = self.argument if self.argument is not None else self.options.url
        if url is None:
            raise SteerError("http: set -o http.url=ADDRESS, or name it as in http:http://localhost:8100")
        self.url = checked_url(url, "http.url")
        self._key = os.environ.get(self.options.key_variable, "")
        self._session = requests.Session()
        self._session.trust_env = not is_local(self.url)
        self._session.headers["Content-Type"] = "application/json"
        if self._key:
            self._session.headers["Authorization"] = f"Bearer {self._key}"
        self.info = self._asked("GET", "/", None, protocol.info_from, [])
        self.needs_prompt = self.info.needs_prompt  # type: ignore[misc]  # of the server's reward

    def __call__(self, samples: Any, prompts: Sequence[Prompt | str]) -> Tensor:
        if isinstance(samples, Tensor) and samples.dim() != 4:
            raise SteerError(f"http sends images or texts, got samples of shape {tuple(samples.shape)}")
        medium = "image" if isinstance(samples, Tensor) else "text"
        if self.info.modality not in (None, medium):
            raise SteerError(
                f"http: {self.url} serves {self.info.reward}, which scores {self.info.modality}s, not {medium}s"
            )
        count = len(prompts)
        most = self.options.batch
        if isinstance(samples, Tensor):
            most = max(1, min(most, protocol.MOST_PIXELS // (samples.shape[2] * samples.shape[3])))
        scores: list[float] = []
        for start in range(0, count, most):
            part = prompts[start : start + most]
            text = protocol.request_text(samples[start : start + most], part)
            read = functools.partial(protocol.scores_from, count=len(part))
            scores += self._asked("POST", protocol.SCORE, text, read, part)
        return torch.tensor(scores, dtype=torch.float32, device=samples.device)

    def _asked(self, method: str, path: str, text: str | None, read: Callable[[str], T], prompts: Sequence[str]) -> T:
        """Return what ``read`` makes of an answer.

        Raises:
            RewardError: after all tries, naming a prompt, and the server's last answer if there was one.
            SteerError: at once, if the server refuses the request.
        """
        failure = _Failure("")
        for attempt in range(self.options.retries + 1):
            if attempt:
                time.sleep(min(0.5 * 2 ** (attempt - 1), LONGEST_WAIT))
            try:
                return self._once(method, path, text, read)
            except _Failure as error:
                failure = error
            if failure.final:
                raise SteerError(f"http: {self._missing(prompts, None)}{self.url} {failure}")
        tries = "one try" if self.options.retries == 0 else f"{self.options.retries + 1} tries"
        raise RewardError(f"http: {self._missing(prompts, failure.row)}{self.url} {failure} ({tries})")

    def _once(self, method: str, path: str, text: str | None, read: Callable[[str], T]) -> T:
        """Try once; raises `_Failure`."""
        options = self.options
        end = time.monotonic() + options.timeout
        try:
            with self._session.request(
                method, self.url + path, data=None if text is None else text.encode(), stream=True,
                timeout=(min(CONNECTING, options.timeout), options.timeout),
            ) as answer:  # fmt: skip
                content = _whole(answer, end)
        except requests.Timeout:
            raise _Failure(
                f"did not answer within {options.timeout:g} s; raise http.timeout, or lower http.batch"
            ) from None
        except requests.RequestException as error:
            reason = self._clean(message_of(_innermost(error)))
            raise _Failure(
                f"cannot be reached ({reason}); start it by `steer serve-reward NAME`, or correct http.url"
            ) from None
        status, body = answer.status_code, content.decode("utf-8", "replace")
        if status == 200:
            try:
                return read(body)
            except BadAnswer as error:
                why = f"gave an answer that cannot be used: {error}; it was {self._clean(body)!r}"
                raise _Failure(why, error.row) from None
        if status in (401, 403):
            what = "refuses the key in" if self._key else "asks for a key, and there is none in"
            raise _Failure(f"{what} the environment variable {options.key_variable}; set it", final=True)
        said = self._clean(protocol.error_in(body))
        raise _Failure(f"answered {status} ({said})", final=status < 500 and status not in (408, 429))

    def _missing(self, prompts: Sequence[str], row: int | None) -> str:
        if not prompts:
            return ""
        shown = repr(str(prompts[row or 0])[:60])
        others = len(set(map(str, prompts))) - 1
        return f"no score for prompt {shown}{f' and {others} more' if row is None and others else ''}: "

    def _clean(self, text: str) -> str:
        """Return the beginning of what a server said, on one line and without the key: servers may repeat it."""
        if self._key:
            text = text.replace(self._key, "***")
        return one_line(text[:SHOWN]) + ("…" if len(text) > SHOWN else "")


class _Failure(Exception):  # noqa: N818 - the outcome of one try
    """A try without an answer; the text says why. ``row`` has no score; a ``final`` one is not tried again."""

    def __init__(self, why: str, row: int | None = None, *, final: bool = False) -> None:
        super().__init__(why)
        self.row, self.final = row, final


def _whole(answer: requests.Response, end: float) -> bytes:
    """Return an answer's content; the client's own timeout counts anew with each byte."""
    parts = []
    try:
        while part := answer.raw.read1(2**16, decode_content=True):
            parts.append(part)
            if time.monotonic() > end:
                raise requests.ReadTimeout
    except urllib3.exceptions.ReadTimeoutError:
        raise requests.ReadTimeout from None
    except urllib3.exceptions.HTTPError as error:
        raise requests.ConnectionError(error) from None
    return b"".join(parts)


def _innermost(error: BaseException) -> BaseException:
    """Return the first error of a chain: what the client wraps around it says nothing more."""
    while (inner := error.__cause__ or error.__context__) is not None:
        error = inner
    return error
