"""A server of judges as a process of its own, which sees colors and misbehaves on demand.

It speaks OpenAI's protocol, for ``vlm``, and the contract of ``http``.

Run as a script it is the server; it imports no torch, so that it starts at once.
"""

from __future__ import annotations

import base64
import io
import json
import math
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from PIL import Image

MODEL = "tiny-judge"
COLORS = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255), "white": (255, 255, 255)}


class JudgeServer:
    """The server, seen from a test."""

    def __init__(self, key: str = "", port: int = 0) -> None:
        self.key, self.port = key, port
        self.start()

    @property
    def url(self) -> str:
        """The address for clients."""
        return f"http://127.0.0.1:{self.port}/v1"

    def start(self) -> None:
        """Start the process, or start it again at the same port."""
        command = [sys.executable, __file__, str(self.port), self.key]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.port = int(self.process.stdout.readline())

    def kill(self) -> None:
        """End the process as a crash does."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def misbehave(self, *faults: dict[str, Any]) -> None:
        """Answer the next requests so; see :meth:`Handler.do_POST`. A fault with ``times`` counts so often."""
        self._ask("/faults", [fault for fault in faults for _ in range(fault.get("times", 1))])

    def requests(self) -> list[dict[str, Any]]:
        """Return the requests for scores since the last call, with their headers and without pictures."""
        return self._ask("/requests", None)

    def _ask(self, path: str, data: Any) -> Any:
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", json.dumps(data).encode())
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=10) as answer:
            return json.load(answer)


@contextmanager
def judge_server(key: str = "") -> Iterator[JudgeServer]:
    """Serve until the block ends."""
    server = JudgeServer(key)
    try:
        yield server
    finally:
        if server.process.poll() is None:
            subprocess.Popen.kill(server.process)
        server.process.wait()


# ---- the process ----------------------------------------------------------------------------------------


def likelihood(image: Image.Image, text: str) -> float:
    """Return P(yes) for "does it show something of this color?"."""
    color = next((COLORS[word] for word in re.findall(r"[a-z]+", text.lower()) if word in COLORS), (255, 255, 255))
    small = image.convert("RGB").resize((32, 32))
    data = small.tobytes()
    near = sum(max(abs(a - b) for a, b in zip(data[i : i + 3], color, strict=True)) < 90 for i in range(0, 3072, 3))
    return 0.02 + 0.96 * min(1.0, 5 * near / 1024)


def decoded(data: str) -> Image.Image:
    """Return a picture that was sent."""
    return Image.open(io.BytesIO(base64.b64decode(data.partition("base64,")[2] or data)))


def scores(body: dict[str, Any]) -> dict[str, Any]:
    """Answer a request of ``http``."""
    pairs = zip(body["images"], body["prompts"], strict=True)
    return {"scores": [likelihood(decoded(image), prompt) for image, prompt in pairs]}


def completion(body: dict[str, Any]) -> dict[str, Any]:
    """Answer a request as a model would."""
    parts = body["messages"][0]["content"]
    text = next(part["text"] for part in parts if part["type"] == "text")
    yes = likelihood(decoded(next(part["image_url"]["url"] for part in parts if part["type"] == "image_url")), text)
    message: dict[str, Any] = {"role": "assistant"}
    words = {"Yes": 0.9 * yes, " yes": 0.05 * yes, "No": 0.9 * (1 - yes), "no": 0.05 * (1 - yes), "Maybe": 0.05}
    if text.startswith("How many"):
        words = {"three": 0.5, "Three": 0.1, "3": 0.15, "two": 0.2, "Maybe": 0.05}
    if "response_format" in body:
        schema = body["response_format"]["json_schema"]["schema"]["properties"]
        points = dict.fromkeys(schema["aspects"]["properties"], round(10 * yes))
        message["content"] = json.dumps({"reason": "so it looks", "aspects": points, "overall": round(10 * yes)})
    elif "Alignment Score" in text:
        points = 1 + 4 * yes
        message["content"] = f"Alignment Score (1-5): {points}\nCoherence Score (1-5): 3\nStyle Score (1-5): 2.5\n"
    elif "Answer: " in text:
        word = "three" if text.startswith("How many") else "yes" if yes > 0.5 else "no"
        message["content"] = (
            f"<think>No, wait. Yes? The answer is hard.</think>\n\nI see it.\n**Answer:** {word.title()}."
        )
    else:
        message["content"] = max(words, key=words.__getitem__)
    choice: dict[str, Any] = {"index": 0, "message": message, "finish_reason": "stop", "logprobs": None}
    if body.get("logprobs"):
        likeliest = [{"token": word, "logprob": math.log(p), "bytes": None} for word, p in words.items()]
        likeliest = sorted(likeliest, key=lambda one: -one["logprob"])[: body["top_logprobs"]]
        choice["logprobs"] = {"content": [{**likeliest[0], "top_logprobs": likeliest}]}
    return {"id": "1", "object": "chat.completion", "created": 1, "model": body["model"], "choices": [choice]}


class Handler(BaseHTTPRequestHandler):
    """Answers requests; what is asked of it and how it is to fail is kept by the class."""

    protocol_version = "HTTP/1.1"
    key = ""
    lock = threading.Lock()
    faults: list[dict[str, Any]] = []  # noqa: RUF012
    asked: list[dict[str, Any]] = []  # noqa: RUF012

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        if self.path == "/":
            self.answer(200, json.dumps({"reward": "colors", "modality": "image"}))
        elif self.path == "/v1/models":
            self.answer(200, json.dumps({"object": "list", "data": [{"id": MODEL, "object": "model"}]}))
        else:
            self.answer(404, json.dumps({"detail": "Not Found"}))

    def do_POST(self) -> None:
        """Answer a request, or fail: ``{"sleep": s}``, ``{"status": n, "headers": {}}``, ``{"cut": n}``,
        ``{"drip": s}`` between single bytes, ``{"body": text}``, or ``{"choice": {…}}`` to replace parts of what a
        model would have answered.
        """
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path == "/faults":
            self.faults[:] = body
            return self.answer(200, "null")
        if self.path == "/requests":
            with self.lock:
                asked = list(self.asked)
                self.asked.clear()
            return self.answer(200, json.dumps(asked))
        if self.path not in ("/v1/chat/completions", "/score"):
            return self.answer(404, json.dumps({"detail": "Not Found"}))
        chat = self.path != "/score"
        with self.lock:
            fault = self.faults.pop(0) if self.faults else {}
            text = body["messages"][0]["content"][1]["text"] if chat else "|".join(body["prompts"])
            fields = {name: value for name, value in body.items() if name not in ("messages", "images")}
            self.asked.append({"text": text, "fields": fields, "headers": dict(self.headers)})
        time.sleep(fault.get("sleep", 0))
        if self.key and self.headers.get("Authorization") != f"Bearer {self.key}":
            said = f"Incorrect API key provided: {self.headers.get('Authorization')}"
            return self.answer(401, json.dumps({"error": {"message": said}}))
        if chat and body["model"] != MODEL:
            return self.answer(404, json.dumps({"error": {"message": f"The model `{body['model']}` does not exist."}}))
        if "status" in fault:
            said = json.dumps({"error": {"message": f"failing for {self.headers.get('Authorization')}"}})
            return self.answer(fault["status"], said, fault.get("headers", {}))
        made = completion(body) if chat else scores(body)
        for name, value in fault.get("choice", {}).items():
            made["choices"][0][name] = value
        return self.answer(200, fault.get("body", json.dumps(made)), {}, fault.get("cut"), fault.get("drip"))

    def answer(
        self, status: int, text: str, headers: dict[str, str] | None = None, cut: int | None = None,
        drip: float | None = None,
    ) -> None:  # fmt: skip
        data = text.encode()
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", "Content-Length": len(data), **(headers or {})}.items():
            self.send_header(name, str(value))
        self.end_headers()
        if drip is not None:
            for byte in data:
                self.wfile.write(bytes([byte]))
                time.sleep(drip)
            return
        self.wfile.write(data[:cut])
        self.close_connection = self.close_connection or cut is not None


if __name__ == "__main__":
    Handler.key = sys.argv[2]
    server = ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler)
    server.daemon_threads = True
    print(server.server_address[1], flush=True)
    server.serve_forever()
