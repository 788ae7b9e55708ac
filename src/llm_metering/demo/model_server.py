"""A real language model behind a real API on this machine: `ModelServer`.

The server is llama.cpp's own, as the package xllamacpp brings it
(https://github.com/xorbitsai/xllamacpp). It speaks OpenAI's chat completions, completions and
responses and Anthropic's messages, and counts tokens by itself: its `/metrics` is a second
source of truth beside what we metered.
"""

from __future__ import annotations

import importlib.util
import itertools
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx

from ..errors import MissingExtraError
from . import loopback
from .counters import ModelServerError, ServerCounters, ServerMetrics

__all__ = ["MissingServerError", "ModelServer"]

# The files of xllamacpp 2026.10.11549 on PyPI: cp310-abi3 for manylinux_2_17_x86_64,
# manylinux_2_17_aarch64, macosx_13_0_x86_64, macosx_13_0_arm64 and win_amd64.
_SERVER_PLATFORMS = (
    "it has wheels for Linux with glibc (x86-64, ARM64), macOS 13 and later (Intel, Apple "
    "silicon) and Windows (x86-64), and none for others, such as Alpine Linux"
)

_POLL_INTERVAL = 0.02
_REQUEST_TIMEOUT = 30.0
_STOP_TIMEOUT = 5.0
_LOG_LINES = 20


class MissingServerError(MissingExtraError):
    """The package that carries the model server is not installed."""

    def __init__(self) -> None:
        super().__init__("xllamacpp", "demo")

    def __str__(self) -> str:
        return f"{super().__str__()} ({_SERVER_PLATFORMS})"


class ModelServer:
    """A model server on 127.0.0.1 that lives as long as the `with` block, and as its process.

    It runs in a child process, so that nothing of it is loaded into this one. The child ends
    with the block, and also when this process is killed.

    Args:
        model_path: A model in the GGUF format.
        alias: The name that requests and answers call it by.
        parallel: Requests it answers at the same time; more than that wait.
        threads: Threads it computes with. They wait for each other by spinning: two on two
            cores that others use as well were seven times slower than one.
        context: Tokens a prompt and its answer may have together.
        answer_limit: Tokens after which an answer ends where the request sets no limit.
        start_timeout: Seconds it may take to load the model and answer.

    Raises:
        MissingServerError: On entering, if xllamacpp is not installed.
        ModelServerError: On entering, if it does not answer in time; with the end of its log.
    """

    def __init__(
        self,
        model_path: Path,
        alias: str,
        *,
        parallel: int = 2,
        threads: int = 1,
        context: int = 2048,
        answer_limit: int = 256,
        start_timeout: float = 60.0,
    ) -> None:
        self.alias = alias
        self._model_path = model_path
        self._start_timeout = start_timeout
        self._options = {
            "--model": str(model_path),
            "--alias": alias,
            "--parallel": str(parallel),
            "--threads": str(threads),
            "--context": str(context),
            "--answer-limit": str(answer_limit),
        }
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._child: subprocess.Popen[bytes] | None = None
        self._client: httpx.Client | None = None
        self._base_url: str | None = None

    def __enter__(self) -> Self:
        if importlib.util.find_spec("xllamacpp") is None:
            raise MissingServerError
        if not self._model_path.is_file():
            raise ModelServerError(f"there is no model file {self._model_path}")
        try:
            self._start()
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stop()

    def __repr__(self) -> str:
        return f"<ModelServer {self.alias} {self._base_url or 'not running'}>"

    @property
    def base_url(self) -> str:
        """Where it listens, without a path: the base URL of Anthropic's clients.

        Raises:
            ModelServerError: If it is not running.
        """
        if self._base_url is None:
            raise ModelServerError("the model server is not running; use it in a with statement")
        return self._base_url

    @property
    def openai_url(self) -> str:
        """The base URL of OpenAI's clients."""
        return f"{self.base_url}/v1"

    @property
    def pid(self) -> int | None:
        """The process id of the child, `None` while there is none."""
        return self._child.pid if self._child is not None else None

    def counters(self) -> ServerCounters:
        """What it has counted so far.

        A request whose answer was received in full is in them. One whose client left comes in
        only when the server has noticed: see `wait_until_idle`.

        Raises:
            ModelServerError: If it does not answer, or not with these counters.
        """
        return self._metrics().counters

    def wait_until_idle(self, timeout: float = 10.0) -> ServerCounters:
        """Wait until it works on no request, and return the counters of that moment.

        Args:
            timeout: Seconds to wait.

        Raises:
            ModelServerError: If it is still busy then, or does not answer.
        """
        deadline = time.monotonic() + timeout
        while True:
            metrics = self._metrics()
            if metrics.requests == 0:
                return metrics.counters
            if time.monotonic() > deadline:
                raise ModelServerError(f"the model server is still busy after {timeout:g} s")
            time.sleep(_POLL_INTERVAL)

    def tokenize(self, text: str) -> int:
        """Count the tokens of `text` alone: no chat template, no special tokens.

        Raises:
            ModelServerError: If it does not answer.
        """
        response = self._request("POST", "/tokenize", json={"content": text})
        return len(response.json()["tokens"])

    def _metrics(self) -> ServerMetrics:
        return ServerMetrics.parse(self._request("GET", "/metrics").text)

    def _request(self, method: str, path: str, *, json: object = None) -> httpx.Response:
        url = f"{self.base_url}{path}"
        assert self._client is not None  # there is one as long as there is a base URL
        try:
            return self._client.request(method, url, json=json).raise_for_status()
        except httpx.HTTPError as error:
            raise ModelServerError(f"{method} {url}: {error}") from error

    def _start(self) -> None:
        self._folder = tempfile.TemporaryDirectory(
            prefix="llm-metering-server-", ignore_cleanup_errors=True
        )
        folder = Path(self._folder.name)
        options = {"--parent": str(os.getpid()), "--folder": str(folder), **self._options}
        script = Path(__file__).with_name("_serve.py")
        with (folder / "log").open("wb") as log:
            self._child = subprocess.Popen(
                # -P: neither the script's folder nor the working folder is searched for modules.
                [sys.executable, "-P", str(script), *itertools.chain(*options.items())],
                # Never written to: that it ends tells the child that we are gone.
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        self._client = loopback.client(_REQUEST_TIMEOUT)
        self._base_url = self._wait_until_ready(folder, self._child, self._client)

    def _wait_until_ready(
        self, folder: Path, child: subprocess.Popen[bytes], client: httpx.Client
    ) -> str:
        deadline = time.monotonic() + self._start_timeout
        while True:
            # The child's end is looked at first, or an address it left would be tried for long.
            if (code := child.poll()) is not None:
                raise ModelServerError(f"the model server ended with {code}{_log_tail(folder)}")
            address = _read_address(folder)
            if address is not None and _is_healthy(client, address):
                return address
            if time.monotonic() > deadline:
                raise ModelServerError(
                    f"the model server did not answer within {self._start_timeout:g} s"
                    f"{_log_tail(folder)}"
                )
            time.sleep(_POLL_INTERVAL)

    def _stop(self) -> None:
        self._base_url = None
        if self._client is not None:
            self._client.close()
            self._client = None
        if self._child is not None:
            _end(self._child)
            self._child = None
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None


def _end(child: subprocess.Popen[bytes]) -> None:
    assert child.stdin is not None  # it was made with a pipe
    child.stdin.close()
    try:
        child.wait(_STOP_TIMEOUT)
    except subprocess.TimeoutExpired:
        # Loading a model, it does not look at its stdin.
        child.kill()
        child.wait()


def _read_address(folder: Path) -> str | None:
    try:
        return (folder / "address").read_text(encoding="ascii")
    except FileNotFoundError:
        return None


def _is_healthy(client: httpx.Client, address: str) -> bool:
    try:
        return client.get(f"{address}/health", timeout=5.0).status_code == httpx.codes.OK
    except httpx.HTTPError:
        return False


def _log_tail(folder: Path) -> str:
    try:
        lines = (folder / "log").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    return "; the end of its log:" + "".join(f"\n  {line}" for line in lines[-_LOG_LINES:])
