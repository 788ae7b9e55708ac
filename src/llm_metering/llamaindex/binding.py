"""Which handler an object of LlamaIndex has been given.

Query engines and `Settings` put their own callback manager in place of a model's, for good and
before the first call (llama-index-core 0.14.25, `response_synthesizers/base.py`,
`BaseSynthesizer.__init__`; `settings.py`, `_Settings.llm`). A handler that the model was built with
would be gone. So what a model has is remembered when LlamaIndex takes it away.
"""

from __future__ import annotations

import sys
import weakref
from typing import Any, Final

from llama_index.core.base.embeddings.base import BaseEmbedding
from llama_index.core.base.llms.base import BaseLLM
from llama_index.core.postprocessor.types import BaseNodePostprocessor

from .accounts import Account

__all__ = ["account_around", "account_of", "bind_account", "has_rival", "watch_attachments"]

_SET: Final = "__setattr__"
_COPIES: Final = ("__copy__", "__deepcopy__")
_MANAGER: Final = "callback_manager"
_ACCOUNT: Final = "account"
_FRAMEWORK: Final = "llama_index."
_OURS: Final = "_llm_metering_watches"

# By the `id` of the object, since pydantic's models cannot be hashed.
_kept: Final[dict[int, tuple[weakref.ref[Any], Account | None]]] = {}


def account_of(instance: object) -> Account | None:
    """The account of the handler that the user gave to the object itself."""
    kept = _kept.get(id(instance))
    if kept is not None and kept[0]() is instance:
        return kept[1]
    return account_around(instance)


def account_around(instance: object) -> Account | None:
    """The account of the handler in the callback manager that the object has now, whoever put it there."""
    handlers = getattr(getattr(instance, _MANAGER, None), "handlers", None)
    if not handlers:
        return None
    for handler in handlers:
        # Not `isinstance` of the handler: it is of an abstract class, where that takes ten times as long.
        account = getattr(handler, _ACCOUNT, None)
        if type(account) is Account:
            return account
    return None


def has_rival(instance: object, account: Account) -> bool:
    """Whether another handler in the object's callback manager names somebody else."""
    handlers = getattr(getattr(instance, _MANAGER, None), "handlers", None) or ()
    rivals = [getattr(handler, _ACCOUNT, None) for handler in handlers]
    return any(
        type(each) is Account and each.subject not in (None, account.subject) for each in rivals
    )


def bind_account(instance: object, account: Account | None) -> None:
    """From now on the account holds for the object, whatever its callback manager says."""
    key = id(instance)

    def forget(reference: weakref.ref[Any]) -> None:
        kept = _kept.get(key)
        if kept is not None and kept[0] is reference:
            _kept.pop(key, None)

    _kept[key] = (weakref.ref(instance, forget), account)


def watch_attachments() -> None:
    """Have it noted when a model is copied, or its callback manager replaced; idempotent."""
    for kind in (BaseLLM, BaseEmbedding, BaseNodePostprocessor):
        if _OURS not in kind.__dict__:
            setattr(kind, _OURS, True)
            # pydantic's own is inherited, and so is nothing of LlamaIndex's replaced here.
            setattr(kind, _SET, _noting(kind))
            for method in _COPIES:
                setattr(kind, method, _binding(kind, method))


def _noting(kind: type[Any]) -> Any:
    inherited: Any = getattr(kind, _SET)

    def set_attribute(self: Any, name: str, value: Any) -> None:
        if name == _MANAGER:
            _note(self, sys._getframe(1).f_globals.get("__name__"))  # noqa: SLF001
        inherited(self, name, value)

    return set_attribute


def _binding(kind: type[Any], method: str) -> Any:
    inherited: Any = getattr(kind, method)

    def copy(self: Any, *args: Any) -> Any:
        copied = inherited(self, *args)
        kept = _kept.get(id(self))
        if kept is not None and kept[0]() is self:
            bind_account(copied, kept[1])
        return copied

    return copy


def _note(instance: object, assigned_by: object) -> None:
    """Take note of what is about to be replaced, and by whom."""
    if not isinstance(assigned_by, str) or not assigned_by.startswith(_FRAMEWORK):
        _kept.pop(id(instance), None)  # the user's own word, the latest one
        return
    kept = _kept.get(id(instance))
    if kept is None or kept[0]() is not instance:
        bind_account(instance, account_around(instance))
