"""Subjects: whoever there is usage of, and what people have told about them."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Final

from fastapi import APIRouter, Body, Request, Response
from pydantic import ConfigDict, Field
from starlette.concurrency import run_in_threadpool

from ...errors import SubjectError
from ...ledger import Ledger
from ...subjects import check_subject
from ..desk import Admin, Desk, ReaderOfAll, TheDesk
from ..documents import refusals
from ..known_subjects import KnownSubject, subject_id
from ..parameters import check_parameters
from ..problems import Refusal
from ..shapes import Answered, Given, Moment

__all__ = ["router"]

router = APIRouter(prefix="/api/v1/subjects", tags=["Subjects"])

_MOST: Final = 1000


class Subject(Answered):
    """A subject, as OpenMeter's API has it."""

    model_config = ConfigDict(title="Subject")

    id: str = Field(description="A ULID, made of the key.")
    key: str
    display_name: str | None = None
    metadata: dict[str, Any] | None = None
    stripe_customer_id: str | None = None
    created_at: Moment = Field(description="When it was told of first, or its first event was.")
    updated_at: Moment


class SubjectUpsert(Given):
    """What is told of a subject."""

    model_config = ConfigDict(title="SubjectUpsert")

    key: str = Field(min_length=1)
    display_name: str | None = None
    metadata: dict[str, Any] | None = None
    stripe_customer_id: str | None = None


@router.get(
    "",
    operation_id="listSubjects",
    summary="All subjects",
    response_model_exclude_none=True,
    responses=refusals(400, 401, 403, 429, 501, 503),
)
async def list_subjects(request: Request, desk: TheDesk, _caller: ReaderOfAll) -> list[Subject]:
    """Whoever there are events of, or was told of, sorted. Needs `read`, of everybody."""
    check_parameters(request, ())
    return await desk.reading.ask(lambda ledger: list(_all(desk, ledger).values()))


@router.post(
    "",
    operation_id="upsertSubject",
    summary="Tell of subjects",
    response_model_exclude_none=True,
    responses=refusals(400, 401, 403, 413, 429, 503),
)
async def upsert_subject(
    given: Annotated[list[SubjectUpsert], Body(max_length=_MOST)],
    desk: TheDesk,
    caller: Admin,
) -> list[Subject]:
    """What was told of them before is replaced. Needs `admin`."""
    now = desk.now()
    try:
        told = [
            KnownSubject(
                key=check_subject(each.key),
                display_name=each.display_name,
                metadata=each.metadata,
                stripe_customer_id=each.stripe_customer_id,
                created_at=now,
                updated_at=now,
            )
            for each in given
        ]
    except SubjectError:
        raise Refusal(400, "one of the keys cannot be a subject") from None
    await run_in_threadpool(desk.subjects.tell, told)
    await desk.noted("subject.upsert", caller, subjects=[each.key for each in told])
    known = await run_in_threadpool(desk.subjects.all)
    return [_shown(each.key, known.get(each.key, each), None) for each in told]


@router.get(
    "/{key}",
    operation_id="getSubject",
    summary="A subject",
    response_model_exclude_none=True,
    responses=refusals(400, 401, 403, 404, 429, 501, 503),
)
async def get_subject(key: str, desk: TheDesk, _caller: ReaderOfAll) -> Subject:
    """The subject of a key or an id. Needs `read`, of everybody."""
    found = await desk.reading.ask(lambda ledger: _all(desk, ledger))
    by_id = {each.id: each for each in found.values()}
    subject = found.get(key) or by_id.get(key)
    if subject is None:
        raise Refusal(404, "there is no such subject")
    return subject


@router.delete(
    "/{key}",
    operation_id="deleteSubject",
    summary="Forget what was told of a subject",
    status_code=204,
    response_class=Response,
    responses=refusals(400, 401, 403, 404, 429, 503),
)
async def delete_subject(key: str, desk: TheDesk, caller: Admin) -> Response:
    """Its usage stays, and so it stays in the list as long as it has some. Needs `admin`."""
    known = await run_in_threadpool(desk.subjects.all)
    by_id = {each.id: each.key for each in known.values()}
    subject = key if key in known else by_id.get(key)
    if subject is None or not await run_in_threadpool(desk.subjects.forget, subject):
        raise Refusal(404, "nothing was told of such a subject")
    await desk.noted("subject.delete", caller, subject=subject)
    return Response(status_code=204)


def _all(desk: Desk, ledger: Ledger) -> dict[str, Subject]:
    known = desk.subjects.all()
    seen = ledger.subjects()
    return {
        key: _shown(key, known.get(key), seen.get(key))
        for key in sorted(known.keys() | seen.keys())
    }


def _shown(key: str, known: KnownSubject | None, seen: tuple[datetime, datetime] | None) -> Subject:
    moments = list(seen or ())
    if known is not None:
        moments += [known.created_at]
    return Subject(
        id=subject_id(key),
        key=key,
        display_name=None if known is None else known.display_name,
        metadata=None if known is None or known.metadata is None else dict(known.metadata),
        stripe_customer_id=None if known is None else known.stripe_customer_id,
        created_at=min(moments),
        updated_at=known.updated_at if known is not None else min(moments),
    )
