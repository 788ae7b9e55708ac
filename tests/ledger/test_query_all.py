"""Several questions at one moment."""

from contextlib import closing

from llm_metering.ledger import Ledger
from llm_metering.meters import usage_query
from tests.factories import batch_of, make_event


def test_answers_are_of_one_moment(tmp_path):
    """What is recorded between two questions is in the answer to neither."""
    path = tmp_path / "ledger.db"
    with closing(Ledger(path)) as ledger, closing(Ledger(path)) as other:
        other.deliver(batch_of([make_event()]))

        def questions():
            yield usage_query("calls_total")
            assert other.deliver(batch_of([make_event()])).accepted
            yield usage_query("calls_total")

        assert [report.total for report in ledger.query_all(questions())] == [1, 1]
        assert [report.total for report in ledger.query_all(questions())] == [2, 2]


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
