"""Processes that LlamaIndex starts: forked ones have our handlers, new ones have to be given them."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys

import pytest

import llm_metering
from llm_metering.llamaindex import MeterWorkers

PIPELINE = """
import asyncio, sys
import llm_metering
from llama_index.core import Document
from llama_index.core.callbacks import CallbackManager
from llama_index.core.extractors import TitleExtractor
from llama_index.core.ingestion import IngestionPipeline
from llama_index.core.embeddings import MockEmbedding
from llama_index.core.llms import MockLLM
from llm_metering.llamaindex import MeteringHandler, MeterWorkers

def main(way, what):
    handlers = [MeteringHandler("acme")] if way == "handler" else []
    manager = CallbackManager(handlers)
    if what == "model":
        llm = MockLLM(max_tokens=3, callback_manager=manager)
        steps = [TitleExtractor(llm=llm, nodes=1, show_progress=False)]
    else:
        steps = [MockEmbedding(embed_dim=3, callback_manager=manager)]
    if way != "handler":
        llm_metering.install()
    if way == "workers":
        with llm_metering.subject("acme"):
            steps.insert(0, MeterWorkers())
    pipeline = IngestionPipeline(transformations=steps, disable_cache=True)
    documents = [Document(text=f"Document {number}.") for number in range(4)]
    with llm_metering.subject("acme"):
        if way == "forked":
            asyncio.run(pipeline.arun(documents=documents, num_workers=2))
        else:
            pipeline.run(documents=documents, num_workers=2)
    llm_metering.close()

if __name__ == "__main__":
    main(*sys.argv[1:])
"""

CALLS = 4
"""One for each document."""


@pytest.fixture
def usage(tmp_path):
    """Runs the pipeline in a program of its own, and says what its ledger holds."""

    def usage(*arguments):
        program = tmp_path / "pipeline.py"
        program.write_text(PIPELINE)
        environment = {
            "LLM_METERING_HOME": str(tmp_path / "home"),
            "PYTHONPATH": ":".join(sys.path),
            "PYTHONWARNINGS": "ignore",
        }
        run = subprocess.run(
            [sys.executable, str(program), *arguments],
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert run.returncode == 0, run.stderr
        shown = subprocess.run(
            [
                *(sys.executable, "-m", "llm_metering", "usage", "--meter", "calls_total"),
                *("--group-by", "subject", "--format", "json"),
            ],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
        rows = json.loads(shown.stdout)["data"]
        return {row["subject"]: row["value"] for row in rows}

    return usage


@pytest.mark.parametrize("what", ["model", "embedding"])
@pytest.mark.parametrize("way", ["handler", "workers"])
def test_new_processes_meter_with_what_is_sent_to_them(usage, way, what):
    """`IngestionPipeline.run` starts fresh ones and pickles its transformations for them.

    A handler in a transformation's callback manager installs itself where it arrives; for
    `install()` there is `MeterWorkers`, which takes the subject along.
    """
    assert usage(way, what) == {"acme": CALLS}


@pytest.mark.parametrize("what", ["model", "embedding"])
def test_forked_processes_meter_as_their_parent_does(usage, what):
    """`IngestionPipeline.arun` forks on Linux: the child has the handlers, and a journal of its own."""
    assert usage("forked", what) == {"acme": CALLS}


def test_a_copy_in_the_same_process_bills_nobody(default_meter):
    """What is pickled and read again where it was made, as a cache does, is in somebody else's request."""
    with llm_metering.subject("acme"):
        workers = MeterWorkers()
    pickled = pickle.dumps(workers)

    again = pickle.loads(pickled)

    assert llm_metering.subjects.current_scope() is None
    assert again.__reduce__() == workers.__reduce__()
