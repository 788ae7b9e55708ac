"""A sink for Acme's billing, which takes records as `{"records": […]}` at any address of its own."""

from __future__ import annotations

import json
import os
import urllib.error
import urllib.request
from collections.abc import Sequence
from urllib.parse import urlsplit

from llm_metering.errors import SinkURLError
from llm_metering.sinks import Delivery, Envelope, Sink, SinkContext, SinkLimits

TIMEOUT = 30.0


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    # A POST would arrive elsewhere as a GET, and a 200 there would count as a batch that is stored.
    def redirect_request(self, *_: object) -> None:
        """Follow none: a redirect is an error, as any other status is."""


class AcmeSink:
    """Posts batches to one address."""

    # Acme knows a record that it has had, by its id, for ever.
    limits = SinkLimits(max_events=50, max_bytes=256 * 1024, dedupe="always")

    def __init__(self, endpoint: str, *, account: str, key: str | None = None) -> None:
        self.name = "acme"
        self.url = f"acme+{endpoint}"
        self.account = account
        self._endpoint = endpoint
        self._opener = urllib.request.build_opener(_NoRedirects)
        self._headers = {"Content-Type": "application/json"}
        if key:
            self._headers["X-Acme-Key"] = key

    def deliver(self, batch: Sequence[Envelope], /) -> Delivery:
        """Send a batch, and say what became of each event of it."""
        if not batch:
            return Delivery()
        records = [self._record(envelope) for envelope in batch]
        request = urllib.request.Request(
            self._endpoint, json.dumps({"records": records}).encode(), self._headers
        )
        try:
            with self._opener.open(request, timeout=TIMEOUT):
                return Delivery.all_accepted(batch)
        except urllib.error.HTTPError as error:
            with error:
                return self._refused(batch, error.code)
        except OSError as error:
            # Acme may have taken the batch before the connection broke.
            return Delivery.try_later(batch, type(error).__name__, ambiguous=True)

    def close(self) -> None:
        """Nothing stays open between two batches."""

    def _record(self, envelope: Envelope) -> dict[str, object]:
        event = json.loads(envelope.payload)
        return {
            "id": f"{event['source']}/{event['id']}",
            "customer": event["subject"],
            "at": event["time"],
            # A call of which nobody knows the tokens has none: it is not 0.
            "tokens": event["data"].get("total_tokens"),
        }

    def _refused(self, batch: Sequence[Envelope], status: int) -> Delivery:
        if status == 400:
            # One event is wrong, and Acme does not say which: they come again in smaller parts.
            return Delivery.refuse(batch, f"HTTP {status}")
        if status == 429 or status >= 500:
            return Delivery.try_later(batch, f"HTTP {status}", ambiguous=status == 500)
        # A wrong key or address: kept until a person mends it.
        return Delivery.try_later(batch, f"HTTP {status}", hold=True)


def from_url(url: str, context: SinkContext) -> Sink:
    """Make the sink that `acme+https://host/path` names."""
    parts = urlsplit(url)
    if not parts.hostname or parts.username or parts.query or parts.fragment:
        # The URL is not repeated: somebody may have put a key into it.
        raise SinkURLError("an acme sink is acme+https://host/path; its key is in ACME_KEY")
    endpoint = url.removeprefix("acme+")
    return AcmeSink(endpoint, account=context.source, key=os.environ.get("ACME_KEY"))
