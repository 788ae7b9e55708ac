"""The one order of precedence: who pays for a call that starts here and now."""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from types import EllipsisType
from typing import Any, Final

import msgspec

from ..errors import CallRefusedError
from ..events import UNATTRIBUTED
from .rules import Enclosing, SubjectRules
from .scopes import Scope, current_scope
from .watching import Watchers

__all__ = ["Attribution", "Rank", "attribute"]

_BY_DEFAULT: Final = SubjectRules()
CONFLICT: Final = "subject_conflict"


class Rank(IntEnum):
    """Where a subject came from; the lower rank wins."""

    HANDLER = 0
    PINNED_SCOPE = 1
    METADATA = 2
    SCOPE = 3
    DEFAULT = 4
    NOBODY = 5


class Attribution(msgspec.Struct, frozen=True, kw_only=True):
    """Whom a call is billed to, frozen when it starts.

    Attributes:
        subject: Who pays.
        rank: Why.
        dimensions: The strings to group by.
        flags: What was odd: `unattributed`, `subject_conflict`, `invalid_subject`,
            `invalid_subject_token`, `invalid_dimension`.
        watchers: Who is told of the call, besides the books.
    """

    subject: str
    rank: Rank
    dimensions: Mapping[str, str] = msgspec.field(default_factory=dict)
    flags: tuple[str, ...] = ()
    watchers: Watchers = ()

    def refusal(self, provider: str | None, model: str | None) -> CallRefusedError | None:
        """What to raise in place of such a call, by those who are told of it."""
        for watcher in self.watchers:
            refusal = watcher.refusal(provider, model)
            if refusal is not None:
                return refusal
        return None

    def beside(self, other: Attribution) -> Attribution:
        """What holds for a call that another handler told of first, as `other` says.

        The lower rank pays, and of two equal ones the first. Subjects that two handlers were built
        with, or a handler and a pinned scope, contradict each other if they differ: that is flagged.
        Else what the other one knows to group by holds too; where they differ, the payer's does.
        """
        payer, second = (self, other) if self.rank < other.rank else (other, self)
        flags = payer.flags
        is_conflict = second.rank <= Rank.PINNED_SCOPE and payer.subject != second.subject
        if (is_conflict or CONFLICT in second.flags) and CONFLICT not in flags:
            flags = (*flags, CONFLICT)
        dimensions = payer.dimensions
        if second.dimensions and not is_conflict:
            dimensions = {**second.dimensions, **dimensions}
        watchers = payer.watchers
        if second.watchers:
            watchers = tuple(dict.fromkeys((*watchers, *second.watchers)))
        return Attribution(
            subject=payer.subject,
            rank=payer.rank,
            dimensions=dimensions,
            flags=flags,
            watchers=watchers,
        )


def attribute(
    *,
    handler: str | None = None,
    metadata: Mapping[str, Any] | None = None,
    enclosing: Enclosing | None = None,
    default: str | None = None,
    dimensions: Mapping[str, str] | None = None,
    rules: SubjectRules = _BY_DEFAULT,
    scope: Scope | EllipsisType | None = ...,
) -> Attribution:
    """Say who pays for a call that starts here and now.

    The order is fixed: the handler's own subject, a pinned scope, run metadata, a scope, the
    default, and at last nobody, which is kept and flagged. What in the metadata can pay for nothing
    is flagged and passed over. Dimensions go by the same order.

    Args:
        handler: The subject the handler was built with.
        metadata: The run's metadata, as the framework hands it over.
        enclosing: Gives the metadata of the run around it, for what is not in the run's own.
        default: The process's subject, from `install()` or the environment.
        dimensions: The handler's own.
        rules: How metadata is read.
        scope: What of `subject()` holds; what does here and now, if left out.
    """
    if scope is ...:
        scope = current_scope()
    is_pinned = scope is not None and scope.pinned
    flags: tuple[str, ...] = ()
    if handler is not None:
        name, rank = handler, Rank.HANDLER
        if scope is not None and is_pinned and scope.subject != handler:
            flags = (CONFLICT,)
    elif scope is not None and is_pinned:
        name, rank = scope.subject, Rank.PINNED_SCOPE
    else:
        carried, flags = rules.subject_in(metadata, enclosing)
        if carried is not None:
            name, rank = carried, Rank.METADATA
        elif scope is not None:
            name, rank = scope.subject, Rank.SCOPE
        elif default is not None:
            name, rank = default, Rank.DEFAULT
        else:
            name, rank, flags = UNATTRIBUTED, Rank.NOBODY, (*flags, "unattributed")
    merged = {**dimensions} if dimensions else {}
    if scope is not None and is_pinned:
        merged = {**scope.dimensions, **merged}
    if rules.dimensions:
        carried_dimensions, odd = rules.dimensions_in(metadata, enclosing)
        merged = {**carried_dimensions, **merged}
        flags = (*flags, *odd)
    if scope is not None and not is_pinned:
        merged = {**scope.dimensions, **merged}
    watchers = () if scope is None else scope.watchers
    return Attribution(subject=name, rank=rank, dimensions=merged, flags=flags, watchers=watchers)
