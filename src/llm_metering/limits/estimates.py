"""`Estimates`: what a call may need at most, which is what is reserved for it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from ..calls import Call
from ..errors import BalanceExceeded, UnpricedCallError
from ..events import UNATTRIBUTED
from ..exchange import Counted, Exchange
from ..prices import Unpriced
from .amounts import Amounts
from .leases import HELD_FOR
from .service import Limits
from .stores import AccountKey, Hold, Rate

__all__ = ["Estimates", "Needs"]

_MOST: Final = 1 << 59
"""Steps that are reserved at most: more than anybody has, and still a number of 64 bits."""

_WITHOUT_OUTPUT: Final = ("embeddings", "rerank")


@dataclass(frozen=True, slots=True, kw_only=True)
class Needs:
    """What a call may need at most, as far as it is known before it is made.

    Attributes:
        provider: Who will be asked.
        model: By the name that is asked for.
        service_tier: The tier that is asked for.
        input_tokens: Tokens that go in.
        output_tokens: Tokens that may come out; the ceiling, if nothing is said.
    """

    provider: str | None = None
    model: str | None = None
    service_tier: str | None = None
    input_tokens: int = 0
    output_tokens: int | None = None


class Estimates:
    """Says what a call may need at most: the tokens that go in, counted, and the most that may come out.

    The latter is what the call itself says, or the ceiling.

    Args:
        limits: Whose accounts, features and rates.
        amounts: What tokens come to.
        count: Counts the tokens of a request.
        ceiling: How many tokens come out at most of a call that says nothing itself.
        requests_per_minute: How many calls a subject may begin a minute, of whom nothing else is said.
        tokens_per_minute: How many tokens, likewise.
    """

    def __init__(
        self,
        limits: Limits,
        amounts: Amounts,
        *,
        count: Callable[[Exchange], Counted],
        ceiling: int,
        requests_per_minute: int | None = None,
        tokens_per_minute: int | None = None,
    ) -> None:
        self._limits = limits
        self._amounts = amounts
        self._count = count
        self._ceiling = ceiling
        self._rates = requests_per_minute, tokens_per_minute

    def __repr__(self) -> str:
        return f"<Estimates for {self._limits!r}>"

    def hold(self, call: Call, id: str, subject: str) -> Hold:
        """What to reserve for a call.

        Raises:
            CallRefusedError: If the subject has no account that the call counts for, or nobody knows what
                the call would cost there.
        """
        start = call.start
        request = start.asked()
        input_tokens = 0
        if request is not None:
            counted = self._count(
                Exchange(model=start.request_model, provider=start.provider, request=request)
            )
            input_tokens = counted.input_tokens or 0
        needs = Needs(
            provider=start.provider,
            model=start.request_model,
            service_tier=start.service_tier,
            input_tokens=input_tokens,
            output_tokens=0 if start.operation in _WITHOUT_OUTPUT else start.output_limit,
        )
        return self.hold_for(needs, id, subject)

    def hold_for(self, needs: Needs, id: str, subject: str, *, seconds: float = HELD_FOR) -> Hold:
        """What to reserve for a call, by what is known of it before it is made.

        Args:
            needs: What it may need.
            id: Names what is reserved.
            subject: Who pays.
            seconds: How long it counts, unless it is renewed.

        Raises:
            CallRefusedError: As `hold`.
        """
        # Nobody is given anything by default for what nobody pays for.
        is_known = subject != UNATTRIBUTED
        terms = self._limits.terms(subject, with_default=is_known)
        features = [
            key
            for key in sorted(terms.features)
            if key in self._limits.features
            and self._limits.features[key].counts(needs.provider, needs.model)
        ]
        data = self._data(needs)
        tokens = data["total_tokens"]
        if not features:
            raise BalanceExceeded(subject, "tokens", "tokens", balance=None, needed=tokens)
        amounts: dict[AccountKey, int] = {}
        for key, parts in self._amounts.of(data, datetime.now(UTC), features).items():
            if isinstance(parts, Unpriced):
                raise UnpricedCallError(needs.model, parts.detail)
            feature = self._limits.features[key]
            # A call of which nothing is known needs something, too.
            amounts[AccountKey(subject, key)] = min(max(feature.steps_up(parts), 1), _MOST)
        requests, tokens_per_minute = self._rates
        rates = []
        if (most := terms.requests_per_minute or requests) is not None:
            rates.append(Rate("requests", 1, most))
        if (most := terms.tokens_per_minute or tokens_per_minute) is not None:
            rates.append(Rate("tokens", min(max(tokens, 1), _MOST), most))
        return Hold(id=id, subject=subject, amounts=amounts, seconds=seconds, rates=tuple(rates))

    def _data(self, needs: Needs) -> Mapping[str, Any]:
        """What the event of the call would hold if it used all that it may."""
        output_tokens = self._ceiling if needs.output_tokens is None else needs.output_tokens
        data = {
            "provider": needs.provider,
            "model": needs.model,
            "service_tier": needs.service_tier,
            "input_tokens": needs.input_tokens,
            "output_tokens": output_tokens,
            "total_tokens": needs.input_tokens + output_tokens,
            "calls": 1,
        }
        return {key: value for key, value in data.items() if value is not None}
