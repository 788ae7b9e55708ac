"""Who may send usage to a server of ours, and who may see it."""

from .api_key import SCOPES, ApiKey, Scope
from .api_keys import ApiKeys
from .audit import AuditLog
from .portal_token import PortalToken
from .portal_tokens import PortalTokens
from .sessions import Session, Sessions

__all__ = [
    "SCOPES",
    "ApiKey",
    "ApiKeys",
    "AuditLog",
    "PortalToken",
    "PortalTokens",
    "Scope",
    "Session",
    "Sessions",
]
