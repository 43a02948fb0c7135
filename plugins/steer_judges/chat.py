"""Asking an OpenAI-compatible server about an image, with retries; every failure is an error that says what helps."""

import base64
import importlib
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from steer import RewardError, SteerError
from steer.plugin import message_of, one_line
from steer_judges.addresses import checked_url, is_local
from steer_judges.replies import BadReply, Reply, read_reply

NO_KEY = "none"
"""Sent to servers that want no key: the client needs one."""
CONNECTING = 10.0
"""Seconds for a connection."""
SHOWN = 160
"""Letters of a reply in a message."""


class Chat:
    """A model behind a server.

    The client tries again after a lost connection, a timeout and the statuses 408, 409, 429 and 5xx, and waits as long
    as the server asks, or longer each time. A reply that cannot be read is asked for again here.
    """

    def __init__(self, owner: str, url: str, model: str, *, key: str, timeout: float, retries: int) -> None:
        """Connect to nothing yet.

        Args:
            owner: the reward's name, for messages.
            url: of the server.
            model: its name there.
            key: environment variable that holds the key, if there is one.
            timeout: seconds for one answer.
            retries: after the first try.

        Raises:
            SteerError: without the package ``openai``, or for a URL that cannot be used or holds a password.
        """
        try:
            import openai
        except ImportError:
            raise SteerError(f"{owner} needs openai: pip install 'steer-diffusion[vlm]'") from None
        self.owner, self.url, self.model, self.variable = owner, checked_url(url, f"{owner}.url"), model, key
        self.timeout, self.retries = timeout, retries
        self._key = os.environ.get(key, "")
        self._openai = openai
        library = next(cls for cls in openai.DefaultHttpxClient.__mro__ if cls.__name__ == "Client").__module__
        self._late = importlib.import_module(library.partition(".")[0]).ReadTimeout  # of httpx or its successor
        self._client = openai.OpenAI(
            base_url=self.url,
            api_key=self._key or NO_KEY,
            timeout=openai.Timeout(timeout, connect=min(timeout, CONNECTING)),
            max_retries=retries,
            http_client=openai.DefaultHttpxClient(
                trust_env=not is_local(self.url), event_hooks={"request": [self._begun], "response": [self._bounded]}
            ),
        )

    def ask(
        self, picture: bytes, text: str, fields: Mapping[str, Any], score: Callable[[Reply], float], prompt: str | None
    ) -> tuple[Reply, float]:
        """Ask about a picture; return the reply and its score.

        Args:
            picture: as PNG.
            text: the question.
            fields: more fields of the request.
            score: reads a reply; raises BadReply.
            prompt: of the image, for messages; ``None`` for the check at the start.

        Raises:
            RewardError: naming the prompt and the reply, after all tries.
            SteerError: naming the server, if it cannot be asked.
        """
        image = {
            "type": "image_url",
            "image_url": {"url": "data:image/png;base64," + base64.b64encode(picture).decode()},
        }
        content = [image, {"type": "text", "text": text}]
        for attempt in range(self.retries + 1):
            body = {"temperature": 0, "seed": attempt, **fields}
            answer = self._send([{"role": "user", "content": content}], body, prompt)
            try:
                reply = read_reply(answer)
                return reply, score(reply)
            except BadReply as error:
                problem = str(error)
        raise RewardError(
            f"{self.owner}: {_missing(prompt)} after {self._tries}: the reply of {self.model} to {text[:80]!r} cannot "
            f"be used: {problem}; it was {self._clean(answer)!r}"
        )

    def _send(self, messages: list[Any], body: dict[str, Any], prompt: str | None) -> str:
        """Return the body of the server's answer."""
        openai = self._openai
        try:
            create = self._client.chat.completions.with_raw_response.create
            return str(create(model=self.model, messages=messages, extra_body=body).http_response.text)
        except openai.APIStatusError as error:
            raise SteerError(f"{self._asking(prompt)} {self._refusal(error)}") from None
        except openai.APITimeoutError:
            raise SteerError(
                f"{self._asking(prompt)} did not answer within {self.timeout:g} s, in {self._tries}; raise "
                f"{self.owner}.timeout, or lower {self.owner}.concurrency"
            ) from None
        except openai.APIConnectionError as error:
            reason = self._clean(message_of(error.__cause__ or error))
            raise SteerError(
                f"{self._asking(prompt)} cannot be reached ({reason}), in {self._tries}; start it, or correct "
                f"{self.owner}.url"
            ) from None

    def _begun(self, request: Any) -> None:
        request.extensions = {**request.extensions, "end": time.monotonic() + self.timeout}

    def _bounded(self, response: Any) -> None:
        """Bound the whole answer: the client's own timeout counts anew with each byte."""
        read, end = response.iter_raw, response.request.extensions["end"]
        late = self._late("the answer takes too long", request=response.request)
        response.iter_raw = lambda *given, **named: _until(read(*given, **named), end, late)

    def _refusal(self, error: Any) -> str:
        """Return what a status means, and what helps."""
        status = error.status_code
        if status in (401, 403):
            what = "refuses the key in" if self._key else "asks for a key, and there is none in"
            return f"{what} the environment variable {self.variable} (status {status}); set it"
        body = error.body.get("message") if isinstance(error.body, dict) else error.body
        said = f"answered {status} ({self._clean(str(body or error.message))})"
        if status == 404:
            return f"{said}; it has {self._models()}"
        if status == 429 or status >= 500:
            return f"{said}, in {self._tries}; lower {self.owner}.concurrency, or try later"
        return f"{said}; change the request, by {self.owner}.mode or {self.owner}.extra"

    def _models(self) -> str:
        try:
            names = [model.id for model in self._client.models.list().data]
        except self._openai.OpenAIError:
            return "another address for chat completions, perhaps one that ends in /v1"
        return "the models " + ", ".join(map(str, names[:10])) if names else "no model"

    def _asking(self, prompt: str | None) -> str:
        return f"{self.owner}: {_missing(prompt)}: {self.url}"

    @property
    def _tries(self) -> str:
        return "one try" if self.retries == 0 else f"{self.retries + 1} tries"

    def _clean(self, text: str) -> str:
        """Return the beginning of what a server said, on one line, without the key: servers may repeat it."""
        if self._key:
            text = text.replace(self._key, "***")
        return one_line(text[:SHOWN]) + ("…" if len(text) > SHOWN else "")


def _until(parts: Iterable[bytes], end: float, late: Exception) -> Iterator[bytes]:
    """Yield the parts of an answer; raise if it has not ended by a time of :func:`time.monotonic`."""
    for part in parts:
        yield part
        if time.monotonic() > end:
            raise late


def _missing(prompt: str | None) -> str:
    return "no answer to the check at the start" if prompt is None else f"no score for prompt {prompt[:60]!r}"
