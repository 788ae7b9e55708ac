"""Events under their providers' response ids, of which two may be the same."""

from __future__ import annotations

import pytest

from llm_metering import Meter
from llm_metering.testing.faults import LostAfterAccept

from .conftest import NOON, SOURCE, Shop, by_kind


def answer(response_id, tokens):
    """What OpenAI's API answers, with an id that its server drew."""
    return {
        "id": response_id,
        "object": "chat.completion",
        "created": int(NOON.timestamp()),
        "model": "tiny",
        "choices": [],
        "usage": {"prompt_tokens": tokens, "completion_tokens": 1, "total_tokens": tokens + 1},
    }


def record(shop, *answers):
    with Meter(home=shop.home, sinks=[shop.url], source=SOURCE) as meter:
        for each in answers:
            meter.record(each, "customer-0", time=NOON)
        assert meter.flush(20)


@pytest.fixture(params=["event_id=response", "event_id=response&api=v3"])
def shop(request, tmp_path, server):
    """An application that sends events under the ids of their responses."""
    return Shop(tmp_path / "home", server, request.param)


def test_a_server_that_has_one_of_them(shop, server):
    """A server that deduplicates counts one; that is told, and not sent again."""
    record(shop, answer("a", 10), answer("b", 20), answer("a", 30), answer("c", 40))

    with shop.reconciling() as reconciler:
        reconciler.compare()
        reconciler.add_totals()
        assert reconciler.to_resend() == []

    assert by_kind(reconciler) == {"collided": {"a"}}
    (finding,) = reconciler.findings.values()
    assert (finding.listed, finding.is_fault) == (1, True)
    assert finding.tokens_off == server.total("$.total_tokens") - (11 + 21 + 31 + 41)
    assert reconciler.well == 2
    totals = {each.slug: each for each in reconciler.meters}
    assert totals["tokens"].is_explained


def test_a_server_that_has_both_of_them(shop, server):
    """Without deduplication both are counted, as they were recorded: no fault."""
    server.dedupe = False
    record(shop, answer("a", 10), answer("a", 30))

    with shop.reconciling() as reconciler:
        reconciler.compare()

    (finding,) = reconciler.findings.values()
    assert (finding.kind, finding.listed, finding.is_fault) == ("collided", 2, False)


def test_a_server_that_has_none_of_them(shop, server):
    """They are off by both."""
    server.order(LostAfterAccept(id="a"), times=None)
    record(shop, answer("a", 10), answer("b", 20), answer("a", 30))

    with shop.reconciling() as reconciler:
        reconciler.compare()

    (finding,) = reconciler.findings.values()
    assert (finding.kind, finding.listed, finding.tokens_off) == ("collided", 0, -42)


def test_others_under_response_ids(shop, server):
    """Which rows are ours is known by the ids on the wire."""
    record(shop, answer("a", 10), answer("b", 20))
    (first, *_) = server.events
    server.preload([{**first, "id": "theirs"}])

    with shop.reconciling() as reconciler:
        reconciler.compare()
        reconciler.add_totals()

    assert reconciler.findings == {}
    (totals,) = (each for each in reconciler.meters if each.slug == "tokens")
    (subject,) = totals.subjects
    assert (subject.others, subject.unexplained) == (11, 0)
