"""A reward as a web application, by the contract of docs/judges.md."""

import hmac
import logging
import threading

import torch
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from torch import Tensor

from steer import RewardError, SteerError
from steer.plugin import RewardFunction, Texts, checked, one_line
from steer_judges.protocol import SCORE, Info, read_request

MOST_BYTES = 512 * 1024**2
"""Of a request."""

log = logging.getLogger(__name__)


def application(reward: RewardFunction, info: Info, device: torch.device, *, key: str = "") -> Starlette:
    """Return the application that serves a reward; one request at a time is scored.

    Args:
        reward: scores samples; its errors become answers.
        info: about it.
        device: of its samples.
        key: requests must carry it, unless it is empty.
    """
    turn = threading.Lock()

    def score(body: bytes) -> list[float]:
        samples, prompts = read_request(body)
        medium = "text" if isinstance(samples, Texts) else "image"
        if info.modality not in (None, medium):
            raise SteerError(f"{info.reward} scores {info.modality}s, got {medium}s")
        with turn, torch.no_grad():
            if isinstance(samples, Texts):
                return list(map(float, checked(info.reward, reward, samples, prompts).tolist()))
            scores = [0.0] * len(prompts)
            for rows in same_size(samples):
                batch = torch.stack([samples[row] for row in rows]).to(device)
                found = checked(info.reward, reward, batch, [prompts[row] for row in rows]).tolist()
                for row, value in zip(rows, found, strict=True):
                    scores[row] = float(value)
            return scores

    async def answer(request: Request) -> Response:
        if not _allowed(request, key):
            return _error("a key is needed", 401)
        # a page in a browser cannot send this type to another origin unasked
        if not request.headers.get("content-type", "").startswith("application/json"):
            return _error("expected Content-Type: application/json", 415)
        body = bytearray()
        async for part in request.stream():
            body += part
            if len(body) > MOST_BYTES:
                return _error(f"the request has more than {MOST_BYTES:,} bytes; send fewer images", 413)
        try:
            return JSONResponse({"scores": await run_in_threadpool(score, bytes(body))})
        except RewardError as error:  # it raised, or gave no finite number
            log.error("%s", error, exc_info=True)
            return _error(str(error), 500)
        except SteerError as error:
            return _error(str(error), 422)
        except (MemoryError, RuntimeError) as error:  # torch's errors of a full GPU
            log.error("%s", error, exc_info=True)
            return _error(f"{type(error).__name__}: {str(error)[:300]}; lower http.batch", 503)

    async def about(request: Request) -> Response:
        return JSONResponse(info.as_dict()) if _allowed(request, key) else _error("a key is needed", 401)

    return Starlette(routes=[Route("/", about), Route(SCORE, answer, methods=["POST"])])


def same_size(images: list[Tensor]) -> list[list[int]]:
    """Return the rows of images of each size."""
    sizes: dict[torch.Size, list[int]] = {}
    for row, image in enumerate(images):
        sizes.setdefault(image.shape, []).append(row)
    return list(sizes.values())


def _allowed(request: Request, key: str) -> bool:
    given = request.headers.get("authorization", "").removeprefix("Bearer ")
    return not key or hmac.compare_digest(given.encode(), key.encode())


def _error(text: str, status: int) -> Response:
    return JSONResponse({"error": one_line(text)}, status)
