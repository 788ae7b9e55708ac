"""`%%metered`: a cell runs under a subject, and what it used is shown below it."""

from __future__ import annotations

import json
from html.parser import HTMLParser

import pytest

import llm_metering
from llm_metering.installed import INSTALLED
from llm_metering.subjects import current_scope

from .conftest import USED, lines_of


@pytest.fixture
def chat(shell, model_server, monkeypatch):
    """A LangChain model in the shell, of the real server."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    shell.run(
        "from langchain_openai import ChatOpenAI\n"
        f"llm = ChatOpenAI(model='tiny', base_url={model_server.openai_url!r}, api_key='x',"
        " max_tokens=4, max_retries=0, stream_usage=True, default_headers={'Connection': 'close'})"
    )
    return shell


def answer(model, **counts):
    """A statement that records a call of its own."""
    return f"llm_metering.record(TokenUsage(**{counts!r}), model={model!r});"


def test_shows_what_the_cell_used(shell):
    """By model, with a total, and neither what was used before nor what comes after."""
    shell.run(f"with llm_metering.subject('acme'): {USED}")

    shown = shell.usage(
        "%%metered acme --dimension feature=search\n"
        + answer("gpt-5", input_tokens=1200, output_tokens=7, cache_read_input_tokens=1000)
        + "\n"
        + answer("gpt-5", input_tokens=100, output_tokens=3)
        + "\n"
        + answer("gpt-5-mini", input_tokens=8, output_tokens=1)
    )

    assert shown[:5] == [
        "This cell, paid by acme, feature=search",
        "model       calls  input  output  cached      cost",
        "gpt-5           2  1,300      10   1,000  no price",
        "gpt-5-mini      1      8       1       -  no price",
        "total           3  1,308      11   1,000  no price",
    ]
    assert shell.usage("%%metered acme\n1") == ["This cell, paid by acme: no calls"]


def test_the_books_say_the_same(shell, default_meter):
    """What is shown for a cell is what the ledger gained by it, under its subject and dimensions."""
    shell.run(f"with llm_metering.subject('acme'): {USED}")
    before = default_meter.usage(subject="acme").total

    shown = shell.usage(f"%%metered acme --dimension feature=search\n{USED}\n{USED}")

    gained = default_meter.usage(subject="acme").total - before
    calls, taken, given = shown[2].split()[1:4]
    assert (int(calls), int(taken) + int(given)) == (2, gained)
    assert default_meter.usage(filters={"feature": "search"}).total == gained


def test_value_and_place_of_the_cell_stay(shell):
    """The last value is shown as ever, and a line number in a traceback is that of the cell."""
    captured = shell.run("%%metered acme\n40 + 2")
    assert "42" in captured.stdout

    captured, result = shell.try_to(f"%%metered acme\n{USED}\n1 / 0")

    assert isinstance(result.error_in_exec, ZeroDivisionError)
    assert "line 3" in captured.stdout
    assert lines_of(captured)[2].split()[:2] == ["gpt-5", "1"]


def test_a_call_of_langchain_is_metered(chat, default_meter):
    """Without `install()`: the handlers are there for the cell, and gone after it."""
    shown = chat.usage("%%metered acme\nanswer = llm.invoke('Hello')")

    usage = json.loads(chat.run("import json; print(json.dumps(answer.usage_metadata))").stdout)
    assert shown[2].split()[1:4] == ["1", str(usage["input_tokens"]), str(usage["output_tokens"])]
    assert set() == INSTALLED
    chat.run("llm.invoke('Hello')")
    assert default_meter.usage("calls_total").total == 1


def test_a_call_of_llamaindex_is_metered(shell):
    """Both frameworks are."""
    shell.run("from llama_index.core.llms import MockLLM")

    shown = shell.usage("%%metered acme\nMockLLM(max_tokens=4).complete('Hello')")

    assert shown[1].split() == ["model", "counts", "calls", "input", "output", "cached", "cost"]
    assert "estimated" in shown[2]
    assert shown[2].split()[-6] == "1"


def test_threads_and_batches_of_the_cell_count(chat):
    """What the framework does in threads of its own is the cell's."""
    shown = chat.usage("%%metered acme\nllm.batch(['a', 'b', 'c'])")

    assert shown[2].split()[1] == "3"


def test_another_thread_does_not_count(shell):
    """Usage of the same subject at the same time is not the cell's."""
    shell.run(f"import threading\ndef other():\n    with llm_metering.subject('acme'): {USED}\n")

    shown = shell.usage(
        f"%%metered acme\nthread = threading.Thread(target=other)\nthread.start(); thread.join()\n{USED}"
    )

    assert shown[2].split()[1] == "1"


def test_a_cell_can_await(chat):
    """`await` works in a metered cell, and what it waited for counts."""
    shown = chat.usage(
        "%%metered acme\nanswer = await llm.ainvoke('Hello')\nawait llm.ainvoke('Ho')"
    )

    assert shown[2].split()[1] == "2"
    assert current_scope() is None


def test_a_stream_that_was_left_counts(chat):
    """A stream whose reader went away is over: it is shown with what is known of it."""
    shown = chat.usage("%%metered acme\nfor piece in llm.stream('Hello'): break")

    assert shown[2].split()[:4] == ["tiny", "estimated", "1", shown[2].split()[3]]
    assert "Of these calls, not completed: 1 aborted." in shown


def test_a_call_in_flight_is_said_to_be(chat, default_meter):
    """A stream that is still being read has no figures yet; once read, it is the subject's."""
    shown = chat.usage("%%metered acme\nstream = llm.stream('Hello')\nnext(stream)")

    assert shown == [
        "This cell, paid by acme",
        "1 call is still in flight, and not in these figures: usage() has them once they are over.",
    ]
    chat.run("rest = list(stream)")
    assert default_meter.usage("calls_total", subject="acme").total == 1


def test_calls_that_others_pay_are_named(shell):
    """A subject that is named in the cell pays, and stands beside its calls."""
    shown = shell.usage(
        "%%metered acme\n"
        + USED
        + "\nllm_metering.record(TokenUsage(input_tokens=1, output_tokens=1), 'beta', model='m');"
    )

    assert shown[1].split()[:3] == ["model", "paid", "by"]
    assert [line.split()[:2] for line in shown[2:4]] == [["gpt-5", "acme"], ["m", "beta"]]


def test_one_response_is_counted_once(shell):
    """However often it is handed over, and to however many meters."""
    shown = shell.usage(
        "%%metered acme\n"
        "key = 'order-1'\n"
        "for _ in range(3):\n"
        "    llm_metering.record(TokenUsage(input_tokens=1, output_tokens=1), model='m',"
        " idempotency_key=key)"
    )

    assert shown[2].split()[:2] == ["m", "1"]


def test_what_nobody_knows_is_no_zero(shell):
    """A response without usage shows a dash, and how many calls the counts are without."""
    shown = shell.usage("%%metered acme\nllm_metering.record({'what': 'ever'}, model='m');" + USED)

    assert shown[1].split()[1] == "counts"
    assert shown[3].split() == ["m", "missing", "1", "-", "-", "-", "no", "price"]
    assert "1 call of unknown usage: the counts above are without it." in shown


def test_other_units_are_shown(shell):
    """A recorded quantity is no call, and has a column."""
    shown = shell.usage("%%metered acme\nllm_metering.record(quantity=3, unit='images');" + USED)

    assert shown[1].split()[-3:] == ["other", "units", "cost"]
    assert shown[2].split()[:2] == ["(images)", "0"]
    assert "3 images" in shown[2]


def test_a_cell_magic_below_goes_on(shell):
    """`%%metered` stands above another cell magic, or below one."""
    above = shell.run(f"%%metered acme\n%%time\n{USED}")
    below = shell.run(f"%%time\n%%metered acme\n{USED}")

    for captured in (above, below):
        assert "Wall time" in captured.stdout
        assert lines_of(captured)[2].split()[:2] == ["gpt-5", "1"]


def test_a_cell_run_inside_is_a_part(shell):
    """What the cell has IPython run does not end it."""
    shown = shell.usage(f"%%metered acme\nget_ipython().run_cell({USED!r})\n{USED}")

    assert shown[2].split()[:2] == ["gpt-5", "2"]


def test_line_magic_holds_to_the_end_of_the_cell(shell):
    """`%metered` meters what comes below it."""
    shown = shell.usage(f"llm_metering.record(TokenUsage(), 'x')\n%metered acme\n{USED}")

    assert [line.split()[0] for line in shown] == ["This", "model", "gpt-5", "Without"]


def test_called_by_a_program(shell):
    """`run_cell_magic` meters the text it is handed."""
    captured = shell.run(f"get_ipython().run_cell_magic('metered', 'acme', {USED!r})")

    assert lines_of(captured)[2].split()[:2] == ["gpt-5", "1"]
    assert current_scope() is None


def test_variables_of_the_notebook_name_the_payer(shell):
    """`$name` and `{expression}` are IPython's."""
    shell.run("customer = 'acme 42'")

    assert shell.usage("%%metered '{customer}'\n1")[0].startswith("This cell, paid by acme 42")


def test_install_in_the_cell_stays(shell):
    """Who installs inside means it: the handlers are there after the cell."""
    shell.run("%%metered acme\nllm_metering.install()")
    assert {"langchain", "llamaindex"} == INSTALLED

    shell.run("%%metered acme\n1")
    assert {"langchain", "llamaindex"} == INSTALLED

    shell.run("%%metered acme\nllm_metering.uninstall()")
    assert set() == INSTALLED


@pytest.mark.parametrize(
    ("line", "error"),
    [
        pytest.param("", "the following arguments are required: subject", id="no subject"),
        pytest.param("acme --budget much", "a budget is an amount above 0", id="no amount"),
        pytest.param("acme --budget 0", "a budget is an amount above 0", id="nothing"),
        pytest.param("acme --budget 1XYZ", "XYZ", id="no currency"),
        pytest.param("acme --dimension feature", "written KEY=VALUE, got 'feature'", id="no value"),
        pytest.param("acme --dimension model=x", "model", id="a key of data"),
        pytest.param("'acme", "No closing quotation", id="quotes"),
        pytest.param("acme --all", "--all", id="unknown option"),
    ],
)
def test_bad_arguments_run_nothing(line, error, shell):
    """One line says what is wrong; the cell is not run, and nothing is installed."""
    captured, result = shell.try_to(f"%%metered {line}\nran = True")

    assert type(result.error_in_exec).__name__ == "UsageError"
    assert captured.stderr.count("\n") == 1
    assert error in captured.stderr
    assert "ran" not in shell.ipython.user_ns
    assert set() == INSTALLED
    assert current_scope() is None


def test_syntax_error_begins_nothing(shell):
    """A cell that cannot be run meters nothing, and the next one is as ever."""
    captured, result = shell.try_to("%%metered acme\n1 +")

    assert isinstance(result.error_before_exec, SyntaxError)
    assert captured.outputs == []
    assert shell.usage(f"%%metered acme\n{USED}")[2].split()[:2] == ["gpt-5", "1"]


def test_loaded_twice_and_taken_away(shell):
    """Loading again changes nothing; unloaded, the magic is gone."""
    shell.run("%load_ext llm_metering")
    shell.run("%reload_ext llm_metering")
    assert shell.usage(f"%%metered acme\n{USED}")[2].split()[:2] == ["gpt-5", "1"]

    shell.run("%unload_ext llm_metering")

    captured, _ = shell.try_to("%%metered acme\n1")
    assert "Cell magic `%%metered` not found" in captured.stderr


class Cells(HTMLParser):
    """The texts of a page."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.texts = [], []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)

    def handle_data(self, data):
        self.texts.append(data)


def test_html_says_the_same(shell):
    """In a notebook it is a table; names are text there."""
    captured = shell.run(
        "%%metered '<b>acme'\nllm_metering.record(TokenUsage(input_tokens=1200), model='<script>');"
    )

    page = Cells(captured.outputs[-1].data["text/html"])
    assert "script" not in page.tags
    assert page.texts == [
        *["This cell, paid by <b>acme", "model", "counts", "calls", "input", "output", "cached"],
        *["cost", "<script>", "partial", "1", "1,200", "-", "-", "no price"],
        "Without a price: 1, since nobody knows its output.",
    ]


def test_no_failure_of_ours(shell):
    """Metering a cell fails in none of these ways."""
    shell.run(f"%%metered acme\n{USED}")

    assert llm_metering.get_meter().statistics()["failures"] == 0
