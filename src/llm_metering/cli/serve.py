"""`llm-metering serve`: take in usage over HTTP."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..errors import ConfigurationError, MissingExtraError
from ..settings import load_settings
from .common import HomeOption

__all__ = ["serve"]


def serve(
    host: Annotated[
        str,
        typer.Option("--host", help="Where to listen; other machines reach what is not loopback."),
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option("--port", min=0, max=65535, help="0 is any free one.")
    ] = 8787,
    workers: Annotated[
        int, typer.Option("--workers", min=1, max=64, help="How many processes.")
    ] = 1,
    name: Annotated[
        list[str] | None,
        typer.Option(
            "--name",
            metavar="HOST",
            help="A name under which it is called without a key, besides those of this machine.",
            show_default=False,
        ),
    ] = None,
    rate: Annotated[
        int,
        typer.Option("--rate", min=1, help="Requests a minute of a key that says nothing else."),
    ] = 60_000,
    certificate: Annotated[
        Path | None,
        typer.Option("--tls-certificate", metavar="FILE", help="Speak HTTPS.", show_default=False),
    ] = None,
    private_key: Annotated[
        Path | None,
        typer.Option(
            "--tls-key", metavar="FILE", help="The certificate's key.", show_default=False
        ),
    ] = None,
    home: HomeOption = None,
) -> None:
    """Take in usage over HTTP, keep it in the ledger and forward it to the sinks."""
    settings = load_settings(home=home)
    try:
        from ..server import ServerOptions
        from ..server.running import Address, check_reachable, log_to_stderr, run
    except ImportError as error:
        if error.name is not None and error.name.startswith("llm_metering"):
            raise
        raise MissingExtraError(error.name or "fastapi", "server") from error
    if (certificate is None) != (private_key is None):
        raise ConfigurationError("tls", "a certificate and its key go together")
    log_to_stderr()
    options = ServerOptions(
        keys_required=check_reachable(settings.home, host),
        hosts=tuple(name or ()),
        requests_per_minute=rate,
    )
    address = Address(host=host, port=port, certificate=certificate, private_key=private_key)
    try:
        run(home, address, options, workers=workers)
    except OSError as error:
        raise ConfigurationError(
            "host", f"cannot listen on {host}:{port}: {error.strerror or error}"
        ) from error
