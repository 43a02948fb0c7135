"""``/v1/images/generations`` and ``/v1/images/edits``, as OpenAI's clients call them."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import Mapping
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from steer.plugin import json_text, read_object, unknown
from steer_live.answers import LAST, answering, error
from steer_live.asked import RefusedError, job_of, values_of
from steer_live.bodies import Form, read_form, read_json, typed, whole
from steer_live.desk import Desk
from steer_live.jobs import Job
from steer_live.uploads import stored

IGNORED = (
    "quality", "style", "user", "moderation", "safety_identifier", "input_fidelity", "output_compression", "background",
    "partial_images",
)  # fmt: skip
"""Parameters of OpenAI's that have no counterpart here."""
TAKEN = ("prompt", "model", "n", "size", "seed", "response_format", "output_format", "stream", "steer")
FORMATS = ("b64_json", "url")
OTHERS = {"stream": (False, None), "output_format": ("png", None)}
"""Parameters that take one value here."""


class ImagesAPI:
    """The API, over a server's queue."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    def routes(self) -> list[Route]:
        """Return its routes."""
        return [
            Route("/v1/images/generations", answering(self.generations), methods=["POST"]),
            Route("/v1/images/edits", answering(self.edits), methods=["POST"]),
            Route("/v1/models", answering(self.models)),
        ]

    async def models(self, request: Request) -> Response:
        """List the one model."""
        model = {"id": self._desk.offer.model, "object": "model", "created": self._desk.created, "owned_by": "steer"}
        return JSONResponse({"object": "list", "data": [model]})

    async def generations(self, request: Request) -> Response:
        """Make images of a prompt."""
        body = await read_json(request)
        return await self._made(request, body, {})

    async def edits(self, request: Request) -> Response:
        """Make images of a prompt and of images that are sent."""
        form = await read_form(request)
        body = dict(form.fields)
        for key in ("n", "seed"):
            body[key] = whole(body[key]) if key in body else None
        body["stream"] = {"false": False, "true": True}.get(str(body.get("stream", "false")).lower(), True)
        if isinstance(body.get("steer"), str):
            body["steer"] = _json(body["steer"])
        if isinstance(body.get("steer"), dict):
            body["steer"] = typed(body["steer"])
            body["steer"]["budget"] = whole(body["steer"].get("budget"))
        inputs = await run_in_threadpool(self._inputs, form)
        return await self._made(request, body, inputs)

    # ---- one request ---------------------------------------------------------------------------------------

    async def _made(self, request: Request, body: Mapping[str, Any], inputs: Mapping[str, Any]) -> Response:
        given = {key: value for key, value in body.items() if value is not None}
        form = self._checked(given)
        job = await run_in_threadpool(self._job, given, inputs)
        await run_in_threadpool(self._desk.queue.submit, job)
        try:
            done = await self._wait(request, job)
        except asyncio.CancelledError:
            if not self._desk.ending:  # the server's end cancels too, and leaves the job for the next one
                raise
            done = None
        if done is None:
            goes_on = "the server is ending; the job goes on when it starts again"
            return error(goes_on, 503, code="ending", headers=LAST)
        if done.status == "stopped":
            return error("the job was stopped", 409, code="stopped", headers=LAST)
        if done.status != "done":
            return error(done.failure, 400 if done.mistaken else 500, headers=LAST)
        return JSONResponse(await run_in_threadpool(self._answer, request, done, form))

    @staticmethod
    def _checked(given: Mapping[str, Any]) -> str:
        """Check the parameters that are no settings; return the form of the answer's images."""
        for key in given:
            if key not in TAKEN and key not in IGNORED:
                raise RefusedError(str(unknown("parameter", key[:60], TAKEN)), param=key[:60])
        for key, allowed in OTHERS.items():
            if given.get(key) not in allowed:
                only = json_text(allowed[0])
                raise RefusedError(f"{key}: got {str(given[key])[:40]}, expected {only}", param=key)
        if given.get("background", "auto") not in ("auto", "opaque"):
            raise RefusedError("background: images here are opaque", param="background")
        form = given.get("response_format", "b64_json")
        if form not in FORMATS:
            raise RefusedError(f"response_format: expected {' or '.join(FORMATS)}", param="response_format")
        return str(form)

    def _job(self, given: Mapping[str, Any], inputs: Mapping[str, Any]) -> Job:
        offer = self._desk.offer
        if (medium := offer.sampler.backbone.medium).suffix != ".png":
            raise RefusedError(f"the model {offer.model!r} makes {medium.plural}; this API is for images")
        if given.get("model", offer.model) != offer.model:
            raise RefusedError(
                f"the model {str(given['model'])[:80]!r} is not served here; expected {offer.model!r}, or none",
                status=404,
                code="model_not_found",
                param="model",
            )
        asked = given.get("steer", {})
        if not isinstance(asked, dict):
            raise RefusedError("steer: expected an object such as {'method': 'fk', 'reward': 'clip'}", param="steer")
        values = values_of(asked, offer)
        if given.get("size", "auto") != "auto":
            values["size"] = given["size"]
        more = _numbers(asked.get("inputs"), offer.sampler.backbone.call_inputs)
        job = job_of(
            given.get("prompt"),
            values,
            offer,
            n=given.get("n", 1),
            seed=given.get("seed", offer.values.get("seed")),
            inputs={**more, **inputs},
        )
        self._desk.check(job)
        return job

    def _inputs(self, form: Form) -> dict[str, Any]:
        """Return the inputs of the pipeline's call that the files of an edit are, stored."""
        offer, images = self._desk.offer, form.files.get("image", [])
        taken = {name: one for name, one in offer.sampler.backbone.call_inputs.items() if one.kind == "image"}
        image = taken.get("image")
        if image is None:
            raise RefusedError(
                f"the model {offer.model!r} takes no image, so it makes no edits; start the server with a pipeline "
                "that does (docs/inputs.md)",
                param="image",
                code="edits_not_supported",
            )
        for name in form.files.keys() - {"image", "mask"}:
            raise RefusedError(f"file {name[:60]!r}: expected image or mask", param=name[:60])
        if not images or (len(images) > 1 and not image.many):
            raise RefusedError(f"image: got {len(images)} files, expected one", param="image")
        paths = [stored(file, f"image {number}", self._desk.folder) for number, file in enumerate(images, 1)]
        inputs: dict[str, Any] = {"image": paths[0] if len(paths) == 1 else paths}
        if masks := form.files.get("mask", []):
            key = next((name for name in ("mask_image", "mask") if name in taken), None)
            if key is None or len(masks) > 1:
                raise RefusedError(f"mask: the model {offer.model!r} takes {'one' if key else 'none'}", param="mask")
            inputs[key] = stored(masks[0], "mask", self._desk.folder, mask=True)
        return inputs

    async def _wait(self, request: Request, job: Job) -> Job | None:
        """Return the job when it ended, or ``None`` if the server ends before; a client that leaves stops its job."""
        end: asyncio.Future[Job] = asyncio.wrap_future(self._desk.queue.end_of(job))
        left: asyncio.Future[Any] = asyncio.ensure_future(_left(request))
        try:
            await asyncio.wait([end, left], return_when=asyncio.FIRST_COMPLETED)
            if end.done():
                return None if end.cancelled() else end.result()
            await run_in_threadpool(self._desk.queue.stop, job)
            return await end
        finally:
            left.cancel()

    def _answer(self, request: Request, job: Job, form: str) -> dict[str, Any]:
        result = read_object(self._desk.folder / job.id / "result.json", "result")
        recipes = {item["id"]: item["recipe"] for item in result["items"]}
        data = []
        for file in job.files:
            told = {key: file[key] for key in ("reward", "judge", "seed", "slot")}
            image: dict[str, Any] = {"steer": {**told, "recipe": recipes[file["id"]]}}
            if form == "url":
                image["url"] = f"{request.url.scheme}://{request.url.netloc}{self._desk.address_of(job, file['key'])}"
            else:
                image["b64_json"] = base64.b64encode(self._desk.content_of(job, file["key"]) or b"").decode()
            data.append(image)
        told = {"job": job.id, "cost": result["cost"], "seconds": job.seconds}
        return {"created": int(time.time()), "data": data, "output_format": "png", "steer": told}


async def _left(request: Request) -> None:
    """Return when the client has left."""
    while (await request.receive())["type"] != "http.disconnect":
        continue


def _numbers(given: Any, taken: Mapping[str, Any]) -> dict[str, Any]:
    """Return inputs that a request may give as such: numbers, flags and texts, no files."""
    if given is None:
        return {}
    if not isinstance(given, dict):
        raise RefusedError("inputs: expected an object such as {'strength': 0.7}", param="steer.inputs")
    for name in given:
        if name in taken and taken[name].kind in ("image", "video"):
            raise RefusedError(f"inputs: {name} is a file; send it as one", param="steer.inputs")
    return given


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise RefusedError("steer: the field is not JSON", param="steer") from None
