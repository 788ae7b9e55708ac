"""Which faults the next request gets."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import Literal

from ..faults import Fault

__all__ = ["Order", "Orders", "Target"]

Target = Literal["ingest", "list"]
"""Requests that bring events, or those that ask for lists and meters."""


@dataclass(slots=True)
class Order:
    """Faults for the next requests of a kind.

    Attributes:
        faults: All of which a request gets, or none.
        target: The kind of request.
        left: How many requests; `None` is all until the orders are cleared.
        chance: How likely it is that a request gets them.
        random: What decides that.
    """

    faults: tuple[Fault, ...]
    target: Target
    left: int | None
    chance: float = 1.0
    random: Random | None = None

    def draw(self) -> tuple[Fault, ...]:
        """The faults of one request."""
        if self.left is not None:
            self.left -= 1
        hit = self.random is None or self.random.random() < self.chance
        return self.faults if hit else ()


class Orders:
    """Orders for a number of requests follow each other; standing ones go with all of them."""

    def __init__(self) -> None:
        self._orders: list[Order] = []

    def add(self, order: Order) -> None:
        """Take an order behind those there are."""
        if order.left != 0:
            self._orders.append(order)

    def clear(self) -> None:
        """Forget all orders."""
        self._orders.clear()

    def take(self, target: Target) -> tuple[Fault, ...]:
        """The faults of the next request; those of a numbered order come before standing ones."""
        mine = [order for order in self._orders if order.target == target]
        numbered = [order for order in mine if order.left is not None][:1]
        standing = [order for order in mine if order.left is None]
        faults = tuple(fault for order in numbered + standing for fault in order.draw())
        self._orders = [order for order in self._orders if order.left != 0]
        return faults
