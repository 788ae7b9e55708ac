"""`MeterWorkers`: metering in the processes that an ingestion pipeline starts.

`IngestionPipeline.run(num_workers=…)` starts new processes, in which nothing is installed, and sends
them its transformations (llama-index-core 0.14.25, `ingestion/pipeline.py`). A handler that one of
these carries in its callback manager arrives there with it. For `install()` there is this
transformation, which changes nothing and installs where it arrives.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, Final
from uuid import uuid4

from llama_index.core.bridge.pydantic import PrivateAttr
from llama_index.core.schema import BaseNode, TransformComponent

from .. import default_meter
from ..installed import ENFORCED
from . import global_handler
from .travelling import capture, restore

__all__ = ["MeterWorkers"]

_IMPORTED: Final = uuid4().hex


class MeterWorkers(TransformComponent):
    """A transformation that leaves the nodes as they are and calls `install()` in each worker.

    Put it first: `IngestionPipeline(transformations=[MeterWorkers(), …])`. What `subject()` says
    where it is made holds in the workers; not what it says where the pipeline is run, since a thread
    of the pool's sends the transformations off. The workers record with their own default meter, made
    of the environment, `llm-metering.toml` and the default subject of this process.
    """

    _context: dict[str, Any] = PrivateAttr(default_factory=capture)

    @classmethod
    def class_name(cls) -> str:
        """The name that pipelines know it by."""
        return "MeterWorkers"

    def __call__(self, nodes: Sequence[BaseNode], **kwargs: Any) -> Sequence[BaseNode]:
        """The nodes, as they are."""
        return nodes

    def __reduce__(self) -> tuple[Any, ...]:
        meter = default_meter.current_meter()
        subject = None if meter is None else meter.subject
        return _arrive, (self._context, subject, _process(), "llamaindex" in ENFORCED)


def _process() -> str:
    """This process, told from those that it has forked and from those of other machines."""
    return f"{_IMPORTED} {os.getpid()}"


def _arrive(
    context: dict[str, Any], subject: str | None, sender: str, enforce: bool = False
) -> MeterWorkers:
    """Unpickle: in a worker, or wherever else a copy arrives."""
    if sender == _process():
        # Where it was made what holds is said by whoever is there, and may be another customer.
        arrived = MeterWorkers()
        arrived._context = context  # noqa: SLF001  # it is one of ours
        return arrived
    if subject is not None and default_meter.get_meter().subject is None:
        default_meter.set_default_subject(subject)
    if enforce:
        default_meter.limited_meter().require_limits()
    global_handler.install(enforce=enforce)
    restore(context)
    return MeterWorkers()
