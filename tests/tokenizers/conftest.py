"""What the tests of counting share."""

from __future__ import annotations

import pytest

from llm_metering.tokenizers import Encodings


@pytest.fixture(scope="session")
def encodings() -> Encodings:
    """The real encodings, from the files that llama-index-core brings along."""
    return Encodings()
