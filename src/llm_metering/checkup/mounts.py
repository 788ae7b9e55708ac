"""What the file system that a folder is on means for a journal.

Source: flock(2) for what file systems of other machines make of locks.
"""

from __future__ import annotations

from typing import Final, Literal

from ..mounts import Mount
from .finding import Finding, failure, ok, warning

__all__ = ["Kind", "judge_mount", "kind_of"]

Kind = Literal["memory", "container", "network", "disk"]
"""`network` is whatever another machine or program serves, `disk` all that is none of the others."""

_IN_MEMORY: Final = frozenset(["tmpfs", "ramfs", "rootfs"])
_OF_A_CONTAINER: Final = frozenset(["overlay", "overlayfs", "aufs"])
_ON_THE_NETWORK: Final = frozenset(
    ["nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "ceph", "lustre", "glusterfs", "gpfs"]
)


def kind_of(mount: Mount) -> Kind:
    """What becomes of the files of a file system, and of their locks."""
    if mount.kind in _IN_MEMORY:
        return "memory"
    if mount.kind in _OF_A_CONTAINER:
        return "container"
    if mount.kind in _ON_THE_NETWORK or mount.kind.startswith("fuse"):
        return "network"
    return "disk"


def judge_mount(mount: Mount | None) -> Finding:
    """Whether a journal can live there."""
    check = "home.file_system"
    if mount is None:
        return ok(check, "this system does not say which file system the home is on")
    where = f"the home is on {mount.kind} (mounted at {mount.point})"
    if mount.read_only:
        return failure(
            check,
            f"{where}, which is read-only",
            means="no event can be kept: applications refuse to start metering",
            advice="set LLM_METERING_HOME to a folder on a volume that can be written to",
        )
    kind = kind_of(mount)
    if kind == "memory":
        return warning(
            check,
            f"{where}, which is memory",
            means="what has not been delivered, and the ledger, are gone when the machine or the "
            "container ends",
            advice="set LLM_METERING_HOME to a folder on a disk, or run `llm-metering drain` "
            "before it ends (preStop) and let a sink keep the usage",
        )
    if kind == "container":
        return warning(
            check,
            f"{where}, the layer of a container",
            means="what has not been delivered, and the ledger, are gone with the container",
            advice="mount a volume and set LLM_METERING_HOME to it, or run `llm-metering drain` "
            "before the container ends (preStop) and let a sink keep the usage",
        )
    if kind == "network":
        return warning(
            check,
            f"{where}, which another machine or program serves",
            means="locks may not hold between machines, a sync may not reach a medium, and "
            "applications wait whenever it does",
            advice="set LLM_METERING_HOME to a folder on a local disk, one for each machine",
        )
    return ok(check, where)
