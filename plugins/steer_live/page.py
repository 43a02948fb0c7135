"""The page, and the routes that it calls."""

from __future__ import annotations

import json
import secrets
from collections.abc import AsyncIterator
from importlib import resources
from pathlib import PurePosixPath
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from steer.plugin import as_row, page_file, parse_prompts
from steer_live.about import about
from steer_live.answers import answering
from steer_live.asked import RefusedError, alone, check_rows, job_of, values_of
from steer_live.bodies import read_form, read_json
from steer_live.channel import Channel
from steer_live.desk import Desk
from steer_live.gallery import Gallery
from steer_live.jobs import IMAGES, PROMPTS, Job

SHARED = ("page.css", "elements.js", "charts.js")
"""Files of the gallery's page that this page uses too."""
OWN = ("live.css", "server.js", "form.js", "particles.js", "runs.js", "history.js", "live.js")
TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".png": "image/png",
    ".mp4": "video/mp4",
    ".txt": "text/plain; charset=utf-8",
}
PROMPT_KINDS = ("txt", "jsonl", "json", "csv", "tsv")
MOST_PROMPT_FILE = 10 * 1024**2


class PageRoutes:
    """The routes of the page, over a server's desk."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._gallery = Gallery(desk.folder)
        own = resources.files("steer_live") / "static"
        self._files = {name: (own / name).read_bytes() for name in ("live.html", *OWN)}
        self._files |= {name: page_file(name).encode() for name in SHARED}

    def routes(self) -> list[Route]:
        """Return the routes."""
        jobs = "/api/jobs/{id}"
        return [
            Route("/", answering(self.index)),
            Route("/static/{name}", answering(self.static)),
            Route("/files/{id}/{key}", answering(self.file)),
            Route("/favicon.ico", answering(self.no_icon)),
            Route("/gallery/{name:path}", answering(self.gallery)),
            Route("/api/about", answering(self.about)),
            Route("/api/events", answering(self.changes)),
            Route("/api/jobs", answering(self.jobs), methods=["GET"]),
            Route("/api/jobs", answering(self.ask), methods=["POST"]),
            Route("/api/renders", answering(self.render), methods=["POST"]),
            Route(jobs, answering(self.job)),
            Route(f"{jobs}/events", answering(self.events)),
            Route(f"{jobs}/stop", answering(self.stop), methods=["POST"]),
            Route(f"{jobs}/again", answering(self.again), methods=["POST"]),
        ]

    # ---- files ---------------------------------------------------------------------------------------------

    async def index(self, request: Request) -> Response:
        """Answer with the page."""
        return _file("live.html", self._files["live.html"])

    async def static(self, request: Request) -> Response:
        """Answer with a style or a script."""
        name = request.path_params["name"]
        if name not in self._files:
            raise RefusedError("there is no such file", status=404)
        return _file(name, self._files[name])

    async def file(self, request: Request) -> Response:
        """Answer with a sample of a job, by its key."""
        job, key = self._job_of(request), request.path_params["key"]
        file, data = job.file(key), await run_in_threadpool(self._desk.content_of, job, key)
        if file is None or data is None:
            raise RefusedError("there is no such file", status=404)
        return _file(file["file"], data)

    async def no_icon(self, request: Request) -> Response:
        """Answer that there is none, which browsers ask for by themselves."""
        return Response(status_code=204)

    async def gallery(self, request: Request) -> Response:
        """Answer with a file of the gallery of all jobs, which is built anew when it is opened."""
        name = request.path_params["name"] or "index.html"
        data = await run_in_threadpool(self._gallery.read, name)
        if data is None:
            raise RefusedError("there is no such file, or no image yet", status=404)
        return _file(name, data)

    # ---- what there is -------------------------------------------------------------------------------------

    async def about(self, request: Request) -> Response:
        """Answer with the model, and what may be asked for."""
        return JSONResponse(await run_in_threadpool(about, self._desk.offer))

    async def jobs(self, request: Request) -> Response:
        """Answer with all jobs, newest first."""
        queue = self._desk.queue
        shown = [{**job.shown(), "before": queue.place_of(job)} for job in queue.jobs()]
        return JSONResponse({"jobs": shown, "waiting": queue.waiting})

    async def job(self, request: Request) -> Response:
        """Answer with a job and all its files."""
        job = self._job_of(request)
        return JSONResponse({**job.shown(), "files": job.files, "before": self._desk.queue.place_of(job)})

    async def changes(self, request: Request) -> Response:
        """Stream the changes of all jobs from now on."""
        channel = self._desk.queue.changes
        return _stream(request, channel, channel.next_id)

    async def events(self, request: Request) -> Response:
        """Stream the events of a job, from its first."""
        job = self._job_of(request)
        channel = self._desk.queue.channel(job)
        return _stream(request, channel, 0) if channel else StreamingResponse(_only_end(job), **EVENTS)

    # ---- what is to be done --------------------------------------------------------------------------------

    async def ask(self, request: Request) -> Response:
        """Queue a run of one prompt, or the same with two ways of steering it (``versus``)."""
        body = await read_json(request)
        for key in body.keys() - {"prompt", "n", "seed", "steer", "versus", "previews"}:
            raise RefusedError(f"unknown key {key[:60]!r}", param=key[:60])
        jobs = await run_in_threadpool(self._jobs, body)
        await run_in_threadpool(self._desk.queue.submit, *jobs)
        return JSONResponse({"jobs": [job.shown() for job in jobs]}, 202)

    async def render(self, request: Request) -> Response:
        """Queue a prompt file."""
        form = await read_form(request, MOST_PROMPT_FILE)
        files = form.files.get("file", [])
        if len(files) != 1:
            raise RefusedError(f"file: got {len(files)} prompt files, expected one", param="file")
        try:
            asked = json.loads(form.fields.get("steer", "{}"))
        except (ValueError, TypeError, RecursionError):
            raise RefusedError("steer: the field is not JSON", param="steer") from None
        job = await run_in_threadpool(self._prompt_job, files[0].name, files[0].data, asked)
        await run_in_threadpool(self._desk.queue.submit, job)
        return JSONResponse({"jobs": [job.shown()]}, 202)

    async def stop(self, request: Request) -> Response:
        """Stop a job after its step."""
        job = self._job_of(request)
        await run_in_threadpool(self._desk.queue.stop, job)
        return JSONResponse(job.shown())

    async def again(self, request: Request) -> Response:
        """Queue a job again: as it was, with fresh seeds, or one image of it; in its number of steps, or in full."""
        job, body = self._job_of(request), await read_json(request)
        if job.open:
            raise RefusedError("the job has not ended yet", status=409)
        other = await run_in_threadpool(self._again, job, body)
        await run_in_threadpool(self._desk.queue.submit, other)
        return JSONResponse({"jobs": [other.shown()]}, 202)

    # ---- inside --------------------------------------------------------------------------------------------

    def _job_of(self, request: Request) -> Job:
        job = self._desk.queue.get(request.path_params["id"])
        if job is None:
            raise RefusedError("there is no such job", status=404)
        return job

    def _jobs(self, body: dict[str, Any]) -> list[Job]:
        offer = self._desk.offer
        seed = body.get("seed", offer.values.get("seed"))
        seed = secrets.randbelow(2**32) if seed is None else seed  # two ways are compared at one seed
        previews = body.get("previews")
        if previews is not None and (type(previews) is not int or previews < 0):
            raise RefusedError(f"previews: got {str(previews)[:20]}, expected a number from 0 on", param="previews")
        ways = [body.get("steer") or {}, *([body["versus"]] if body.get("versus") is not None else [])]
        jobs = []
        for way in ways:
            if not isinstance(way, dict):
                raise RefusedError("steer: expected an object", param="steer")
            job = job_of(
                body.get("prompt"),
                values_of(way, offer),
                offer,
                n=body.get("n", 1),
                seed=seed,
                previews=previews,
                origin="page",
            )
            self._desk.check(job)
            jobs.append(job)
        return jobs

    def _prompt_job(self, name: str, data: bytes, asked: Any) -> Job:
        if not isinstance(asked, dict):
            raise RefusedError("steer: expected an object", param="steer")
        kind = name.rpartition(".")[2].lower()
        if kind not in PROMPT_KINDS:
            raise RefusedError(f"file: expected one that ends in .{', .'.join(PROMPT_KINDS)}", param="file")
        seed = asked.pop("seed", None)
        values = values_of(asked, self._desk.offer)
        prompts = parse_prompts(data, name=name, kind=kind)
        check_rows(prompts, values, self._desk.offer)
        job = Job(PROMPTS, values, [as_row(prompt) for prompt in prompts], title=name, total=len(prompts))
        if seed is not None:
            job.values["seed"] = seed
        self._desk.check(job)
        return job

    def _again(self, job: Job, body: dict[str, Any]) -> Job:
        if job.kind == PROMPTS:  # it goes on in its folder
            return job
        rows, values = [dict(row) for row in job.rows], dict(job.values)
        if body.get("file") is not None:
            file = job.file(body["file"])
            if file is None:
                raise RefusedError("file: there is no such image", param="file")
            body = {**body, "prompt": file["id"], "slot": file["slot"]}
        if body.get("prompt") is not None:
            slot, rows = body.get("slot", 0), [row for row in rows if row["id"] == body["prompt"]]
            if not rows or type(slot) is not int or not 0 <= slot < 2**32:
                raise RefusedError("prompt, slot: there is no such sample", param="slot")
            if found := alone(job, rows[0], slot):
                rows, values = [found[0]], found[1]
        if body.get("fresh"):
            rows = [{**row, "seed": secrets.randbelow(2**32)} for row in rows]
        if body.get("full"):
            values["steps"] = self._desk.offer.values.get("steps")
        return Job(IMAGES, values, rows, previews=None, title=job.title)


EVENTS: dict[str, Any] = {"media_type": "text/event-stream", "headers": {"X-Accel-Buffering": "no"}}


def _stream(request: Request, channel: Channel, start: int) -> Response:
    """Stream a channel from an event on; a reader that was cut off gets what it has not seen."""
    seen = channel.after(request.headers.get("last-event-id", ""))
    return StreamingResponse(channel.follow(start if seen is None else seen), **EVENTS)


async def _only_end(job: Job) -> AsyncIterator[bytes]:
    """Yield the one event that is left of a job that ended long ago."""
    channel = Channel()
    channel.put("end", job.shown())
    channel.close()
    async for event in channel.follow():
        yield event


def _file(name: str, data: bytes) -> Response:
    return Response(data, media_type=TYPES.get(PurePosixPath(name).suffix, "application/octet-stream"))
