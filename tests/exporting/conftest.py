"""A ledger to export."""

from __future__ import annotations

import pytest

from llm_metering.ledger import Ledger


@pytest.fixture
def ledger(tmp_path) -> Ledger:
    return Ledger(tmp_path / "home" / "ledger.db")
