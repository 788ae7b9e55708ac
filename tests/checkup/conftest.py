"""What a check found, and homes to look at."""

from __future__ import annotations

import pytest

from llm_metering.sinks import Delivery
from llm_metering.sinks.base import SinkLimits


@pytest.fixture
def levels():
    """What was found, by check and sink, as levels alone."""

    def levels(findings):
        return {
            (each.check, each.sink) if each.sink else each.check: each.level for each in findings
        }

    return levels


class FarSink:
    """A sink that answers as a test says.

    Args:
        answer: Makes a delivery of a batch.
        account: Whose books it writes.
    """

    name = "far"
    url = "far://away"
    limits = SinkLimits()

    def __init__(self, answer=Delivery.all_accepted, account="shop"):
        self.account = account
        self.deliver = lambda batch: answer(batch)

    def close(self):
        """Nothing is open."""
