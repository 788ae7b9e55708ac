"""Several questions at one moment."""

from contextlib import closing

import pytest

from llm_metering.errors import QueryError
from llm_metering.ledger import Ledger, store
from llm_metering.ledger._queries import report
from llm_metering.meters import usage_query
from tests.factories import batch_of, make_event


def test_answers_are_of_one_moment(tmp_path, monkeypatch):
    """What is recorded between two questions is in the answer to neither."""
    path = tmp_path / "ledger.db"
    with closing(Ledger(path)) as ledger, closing(Ledger(path)) as other:
        other.deliver(batch_of([make_event()]))

        def answer_and_deliver(*args, **more):
            answer = report(*args, **more)
            assert other.deliver(batch_of([make_event()])).accepted
            return answer

        monkeypatch.setattr(store, "report", answer_and_deliver)
        questions = [usage_query("calls_total")] * 2
        assert [each.total for each in ledger.query_all(questions)] == [1, 1]
        assert [each.total for each in ledger.query_all(questions)] == [3, 3]


def test_answers_come_in_the_order_of_the_questions(tmp_path):
    """Each answer has its question; a ledger without events has them all."""
    queries = [usage_query(slug) for slug in ("tokens_input", "tokens_output", "calls_total")]
    with closing(Ledger(tmp_path / "ledger.db")) as ledger:
        empty = ledger.query_all(queries)
        ledger.deliver(batch_of([make_event()]))
        full = ledger.query_all(queries)

        assert full == [ledger.query(query) for query in queries]
    assert [report.query for report in empty] == queries
    assert [len(report) for report in empty] == [0, 0, 0]


def test_what_takes_longer_than_it_may_is_broken_off(tmp_path):
    """All questions together, where a limit was set; the ledger answers on afterwards."""
    path = tmp_path / "ledger.db"
    question = usage_query("calls_total", group_by="run_id")
    with closing(Ledger(path)) as patient, closing(Ledger(path, time_limit=-1.0)) as hasty:
        for _ in range(10):
            patient.deliver(batch_of([make_event() for _ in range(400)]))
        with pytest.raises(QueryError, match="takes longer than -1 seconds; ask for a shorter"):
            hasty.query(question)
        hasty.time_limit = 60.0
        assert hasty.query(question).total == patient.query(question).total == 4000
