"""A write that keeps the interpreter's lock."""

from __future__ import annotations

import errno
import os

__all__ = ["HoldingWrite"]


class HoldingWrite:
    """`os.write` that keeps the interpreter's lock.

    `os.write` gives it up, and beside a thread that computes comes back a switch interval (5 ms)
    later. This one takes microseconds; but while it is held up by the disk, so is every thread.

    Raises:
        OSError: If the C library cannot be reached.
    """

    def __init__(self) -> None:
        import ctypes  # takes milliseconds, and is seldom wanted

        self._ctypes = ctypes
        try:
            self._write = ctypes.PyDLL(None, use_errno=True).write
        except (AttributeError, TypeError) as error:  # Windows
            raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS)) from error
        self._write.argtypes = [ctypes.c_int, ctypes.c_char_p, ctypes.c_size_t]
        self._write.restype = ctypes.c_ssize_t

    def __call__(self, descriptor: int, data: bytes) -> int:
        """As `os.write`.

        Raises:
            OSError: As `os.write` does.
        """
        while (written := int(self._write(descriptor, data, len(data)))) < 0:
            code = self._ctypes.get_errno()
            if code != errno.EINTR:
                raise OSError(code, os.strerror(code))
        return written
