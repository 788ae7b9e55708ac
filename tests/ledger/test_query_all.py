"""Several questions at one moment."""

from contextlib import closing

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
