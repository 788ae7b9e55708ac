"""`PlanBook`: all plans, and who is on which of them when."""

from __future__ import annotations

import calendar
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from functools import cached_property
from typing import Final

from ..errors import BillError, PlanError
from .plans import Plan, check_day

__all__ = ["Assignment", "Part", "PlanBook", "month_of"]

_DECEMBER: Final = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Assignment:
    """That a subject is on a plan.

    Attributes:
        subject: Who pays.
        plan: The plan's name.
        start: The first day, in the plan's time zone.
        end: The first day on which it no longer is; `None` is until its next assignment.

    Raises:
        PlanError: If a day is none, or the end is not behind the start.
    """

    subject: str
    plan: str
    start: date
    end: date | None = None

    def __post_init__(self) -> None:
        if not self.subject:
            raise PlanError("a subject is not empty", "subject")
        check_day("from", self.start)
        if self.end is not None:
            check_day("to", self.end)
            if self.end <= self.start:
                raise PlanError(f"to = {self.end} must be behind from = {self.start}", "to")


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """Days of one month on which a subject is on one version of one plan.

    Attributes:
        start: The first day.
        end: The first day behind it.
        plan: The version that holds; `None` if it is on no plan.
    """

    start: date
    end: date
    plan: Plan | None

    @property
    def days(self) -> tuple[int, int, int]:
        """How many days of the month are before it and before its end, and how many there are."""
        before = self.start.day - 1
        total = calendar.monthrange(self.start.year, self.start.month)[1]
        return before, before + (self.end - self.start).days, total


def month_of(day: date) -> tuple[date, date]:
    """The first day of a day's month, and that of the next."""
    year, month = divmod(day.month, _DECEMBER)
    return day.replace(day=1), date(day.year + year, month + 1, 1)


@dataclass(frozen=True, kw_only=True)
class PlanBook:
    """All plans, and who is on which of them when.

    Attributes:
        plans: Every version of every plan.
        assignments: Who is on which.
        default_plan: The plan on days for which a subject has no assignment.

    Raises:
        PlanError: If two versions are of one day, assignments overlap, or name a plan that is not
            there on their first day, or if the plans of a subject are in several time zones.
    """

    plans: tuple[Plan, ...]
    assignments: tuple[Assignment, ...] = ()
    default_plan: str | None = None

    def __post_init__(self) -> None:
        for place, plan in enumerate(self.plans):
            for other in self.plans[:place]:
                if (other.name, other.effective_from) == (plan.name, plan.effective_from):
                    message = f"plan {plan.name} has two versions from {plan.effective_from}"
                    raise PlanError(message, "plans", place, "effective_from")
                if other.name == plan.name and other.time_zone != plan.time_zone:
                    # An hour between the two would be on no bill, or on both.
                    raise PlanError(
                        f"plan {plan.name} is in {other.time_zone} and in {plan.time_zone}; all "
                        "versions have one time_zone, and a plan in another one has another name",
                        *("plans", place, "time_zone"),
                    )
        if self.default_plan is not None:
            self._check_known(self.default_plan, "default_plan")
        for place, assignment in enumerate(self.assignments):
            self._check(assignment, place)

    def _check_known(self, name: str, *where: str | int) -> None:
        if name not in self._versions:
            known = ", ".join(self._versions) or "none"
            raise PlanError(f"there is no plan {name!r}; there are {known}", *where)

    def _check(self, assignment: Assignment, place: int) -> None:
        where = ("subjects", place)
        self._check_known(assignment.plan, *where, "plan")
        versions = self._versions[assignment.plan]
        if assignment.start < versions[0].effective_from:
            raise PlanError(
                f"{assignment.subject} is on {assignment.plan} from {assignment.start}, and its "
                f"first version is from {versions[0].effective_from}",
                *(*where, "from"),
            )
        zone = versions[0].time_zone
        for other_place in self._places[assignment.subject]:
            other = self.assignments[other_place]
            if other_place >= place:
                break
            if _overlap(assignment, other):
                raise PlanError(
                    f"{assignment.subject} is on {other.plan} from {other.start} already"
                    + (f" to {other.end}" if other.end else "")
                    + f"; from {assignment.start} it would be on {assignment.plan} as well",
                    *(*where, "from"),
                )
            self._check_zone(assignment, zone, other.plan, where)
        if self.default_plan is not None:
            self._check_zone(assignment, zone, self.default_plan, where)

    def _check_zone(
        self, assignment: Assignment, zone: str, plan: str, where: tuple[str | int, ...]
    ) -> None:
        other = self._versions[plan][0].time_zone
        if other != zone:
            raise PlanError(
                f"{assignment.plan} is in {zone} and {plan} in {other}; all plans of "
                f"{assignment.subject}, and the default_plan, have one time_zone, or hours between "
                "them would be on no bill or on two",
                *(*where, "plan"),
            )

    @cached_property
    def _versions(self) -> dict[str, list[Plan]]:
        found: dict[str, list[Plan]] = {}
        for plan in sorted(self.plans, key=lambda plan: plan.effective_from):
            found.setdefault(plan.name, []).append(plan)
        return dict(sorted(found.items()))

    @cached_property
    def _places(self) -> dict[str, list[int]]:
        found: dict[str, list[int]] = {}
        for place, assignment in enumerate(self.assignments):
            found.setdefault(assignment.subject, []).append(place)
        return found

    @property
    def subjects(self) -> tuple[str, ...]:
        """Who has an assignment."""
        return tuple(self._places)

    @property
    def default_time_zone(self) -> str | None:
        """Whose days count for those without an assignment; `None` if they cannot be billed."""
        return self._versions[self.default_plan][0].time_zone if self.default_plan else None

    def time_zone_of(self, subject: str) -> str:
        """Whose days and months are on a subject's bills.

        Raises:
            BillError: If it is on no plan at all.
        """
        for place in self._places.get(subject, ()):
            return self._versions[self.assignments[place].plan][0].time_zone
        if self.default_plan is None:
            raise BillError(
                f"{subject} is on no plan, so it cannot be billed; give it a row of [[subjects]], or "
                "name a default_plan"
            )
        return self._versions[self.default_plan][0].time_zone

    def parts(self, subject: str, start: date, end: date) -> tuple[Part, ...]:
        """The parts of a period, each under one version of one plan, or none.

        Args:
            subject: Who pays.
            start: The first day.
            end: The first day behind the period; both are of one month.
        """
        spans = sorted(self._assigned(subject), key=lambda span: span[0])
        parts: list[Part] = []
        day = start
        while day < end:
            name, until = self.default_plan, end
            for first, last, plan in spans:
                if first <= day and (last is None or day < last):
                    name, until = plan, min(until, last or end)
                elif first > day:
                    until = min(until, first)
                    break
            version, following = self._version(name, day)
            until = min(until, following or until)
            parts.append(Part(start=day, end=until, plan=version))
            day = until
        return tuple(parts)

    def _version(self, name: str | None, day: date) -> tuple[Plan | None, date | None]:
        found = None
        for plan in self._versions.get(name or "", ()):
            if plan.effective_from > day:
                return found, plan.effective_from
            found = plan
        return found, None

    def _assigned(self, subject: str) -> Iterator[tuple[date, date | None, str]]:
        rows = [self.assignments[place] for place in self._places.get(subject, ())]
        rows.sort(key=lambda row: row.start)
        for row, following in itertools.zip_longest(rows, rows[1:]):
            yield row.start, _earlier(row.end, following), row.plan


def _earlier(end: date | None, following: Assignment | None) -> date | None:
    if end is None or following is None:
        return end or (following.start if following else None)
    return min(end, following.start)


def _overlap(one: Assignment, other: Assignment) -> bool:
    first, second = sorted((one, other), key=lambda row: row.start)
    # Without an end, a row holds until the next one: only the same day is taken twice.
    return first.start == second.start or (first.end is not None and second.start < first.end)


def versions_used(parts: Sequence[Part]) -> tuple[Plan, ...]:
    """The versions that hold in some part, each once, in the order of time."""
    return tuple(dict.fromkeys(part.plan for part in parts if part.plan is not None))
