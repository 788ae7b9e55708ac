"""Who pays for a call: names, scopes, run metadata, signed tokens, and the one order of precedence."""

from .attribution import CONFLICT, Attribution, Rank, attribute
from .missing import ON_MISSING, MissingSubjects, OnMissing
from .names import MAX_LENGTH, check_subject, plain_dimensions
from .rules import (
    FROM_METADATA,
    MAX_DIMENSION_LENGTH,
    METADATA_KEYS,
    FromMetadata,
    SubjectRules,
)
from .scopes import Scope, current_scope, enter_scope, subject, watched_subject
from .tokens import SubjectVerifier, sign_subject
from .watching import CallWatcher, Watchers, ticket_of, watcher_of

__all__ = [
    "CONFLICT",
    "FROM_METADATA",
    "MAX_DIMENSION_LENGTH",
    "MAX_LENGTH",
    "METADATA_KEYS",
    "ON_MISSING",
    "Attribution",
    "CallWatcher",
    "FromMetadata",
    "MissingSubjects",
    "OnMissing",
    "Rank",
    "Scope",
    "SubjectRules",
    "SubjectVerifier",
    "Watchers",
    "attribute",
    "check_subject",
    "current_scope",
    "enter_scope",
    "plain_dimensions",
    "sign_subject",
    "subject",
    "ticket_of",
    "watched_subject",
    "watcher_of",
]
