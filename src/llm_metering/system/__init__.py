"""The operating system, behind one package: locks, syncing, positioned I/O, fork hooks.

The POSIX path is the one that is tested (Linux). The Windows path (`msvcrt.locking`) and the
macOS one (`F_FULLFSYNC`) are written from their documentation and were never run.
"""

from .files import (
    PRIVATE_FILE,
    identity_of,
    make_private_folder,
    read_at,
    replace_file,
    sync_data,
    sync_folder,
    truncate,
    write_at,
)
from .forks import (
    FORK_PATIENCE,
    ForkAware,
    ForkGuarded,
    guard_fork,
    never_close,
    notice_fork,
    on_fork,
    run_fork_hooks,
    undisturbed,
)
from .holding_write import HoldingWrite
from .locks import lock_file, unlock_file

__all__ = [
    "FORK_PATIENCE",
    "PRIVATE_FILE",
    "ForkAware",
    "ForkGuarded",
    "HoldingWrite",
    "guard_fork",
    "identity_of",
    "lock_file",
    "make_private_folder",
    "never_close",
    "notice_fork",
    "on_fork",
    "read_at",
    "replace_file",
    "run_fork_hooks",
    "sync_data",
    "sync_folder",
    "truncate",
    "undisturbed",
    "unlock_file",
    "write_at",
]
