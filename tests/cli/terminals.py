"""A command in a terminal of a given size, and what is on its screen."""

from __future__ import annotations

import codecs
import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time

_ESCAPES = re.compile(r"\x1b\[[?\d;]*[A-Za-z]")
ALTERNATE, BACK = "\x1b[?1049h", "\x1b[?1049l"
# Longer than anything here takes, on a machine that has other things to do.
PATIENCE = 60.0


class Terminal:
    """Runs `python -m llm_metering` in a terminal.

    Args:
        home: The home.
        arguments: Of the command.
        columns: How wide the terminal is.
        lines: How high it is.
    """

    def __init__(self, home, *arguments, columns=80, lines=24, **environment):
        self.ours, theirs = pty.openpty()
        self._set_size(columns, lines)
        self.seen = ""
        # A piece may end in the middle of a character.
        self._decode = codecs.getincrementaldecoder("utf-8")().decode
        self.process = subprocess.Popen(
            [sys.executable, "-m", "llm_metering", *map(str, arguments)],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            cwd=home.parent,
            env={
                **{name: value for name, value in os.environ.items() if name != "NO_COLOR"},
                "LLM_METERING_HOME": str(home),
                "TERM": "xterm-256color",
                **environment,
            },
        )
        os.close(theirs)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self.ours)

    def resize(self, columns, lines):
        """Give the window another size, of which a shell's terminal tells the command in front."""
        self._set_size(columns, lines)
        self.process.send_signal(signal.SIGWINCH)

    def _set_size(self, columns, lines):
        fcntl.ioctl(self.ours, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def wait_for(self, pattern):
        """Read on until the pattern has come since the last wait; what came until then."""
        deadline = time.monotonic() + PATIENCE
        while not (found := re.search(pattern, text_of(self.seen))):
            assert time.monotonic() < deadline, self.seen
            assert self._read(), self.seen
        came, self.seen = self.seen, ""
        return came, found

    def end(self, number=signal.SIGINT):
        """Send a signal; the exit code, and all that came until the end."""
        self.process.send_signal(number)
        return self.finish()

    def finish(self):
        """Wait for the end; the exit code, and all that came until then."""
        while self._read():
            pass
        return self.process.wait(PATIENCE), self.seen

    def _read(self):
        if not select.select([self.ours], [], [], PATIENCE)[0]:
            return False
        try:
            piece = os.read(self.ours, 65536)
        except OSError:
            return False  # that is how Linux says that the other end is closed
        self.seen += self._decode(piece).replace("\r\n", "\n")
        return bool(piece)


def text_of(seen):
    """What came to a terminal, without its commands."""
    return _ESCAPES.sub("", seen)
