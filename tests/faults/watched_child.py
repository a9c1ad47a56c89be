"""Command lines carried out in a forked child that is watched: how they end, and what they touch elsewhere."""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stagewise.cli.main import main as command

CODES = (0, 1, 2, 3)
SECONDS = 120  # of processor time, which a loaded machine does not prolong
BYTES = 6 << 30  # of addresses on top of what the imports took
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
CHANGES = ("os.remove", "os.rename", "os.mkdir", "os.rmdir", "os.link", "os.symlink", "os.truncate", "os.chmod")
NEVER = ("os.system", "os.exec", "os.posix_spawn", "os.spawn", "subprocess.Popen", "socket.connect")
HARMLESS = ("/dev/null", "/dev/tty")
CACHE = f"{tempfile.gettempdir()}/torchinductor_"  # torch makes it when it is imported in part


@dataclass
class Ended:
    """How command lines ended that were carried out one after another in a child.

    Attributes:
        codes: exit code of each.
        words: all that they said.
        touched: what was written, deleted or executed outside the folder where that is allowed.
    """

    codes: list[int] = field(default_factory=list)
    words: str = ""
    touched: list[str] = field(default_factory=list)

    def problems(self, asked: int) -> Iterator[str]:
        """Say what a user must never see."""
        if len(self.codes) < asked:
            yield f"command {len(self.codes) + 1} of {asked} did not end: hang, crash or out of memory"
        for code in self.codes:
            if code not in CODES:
                yield f"exit code {code}"
        for word in ("Traceback", "unforeseen"):
            if word in self.words:
                yield f"says {word!r}"
        yield from self.touched


def carry_out(lines: list[list[str]], inside: Path | None, words: Path) -> Ended:
    """Carry out command lines in a forked child that may write below `inside` only.

    Args:
        lines: of arguments for `stagewise`.
        inside: the folder, None for nowhere.
        words: file for what they say.
    """
    receive, send = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(receive)
        _child(lines, inside, words, send)
    os.close(send)
    with os.fdopen(receive, encoding="utf-8") as pipe:
        told = [json.loads(line) for line in pipe.read().splitlines()]
    os.waitpid(pid, 0)
    said = words.read_text(errors="replace") if words.exists() else ""
    codes = [t["code"] for t in told if "code" in t]
    return Ended(codes, said, [t["touched"] for t in told if "touched" in t])


def _child(lines: list[list[str]], inside: Path | None, words: Path, send: int) -> None:
    descriptor = os.open(words, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(descriptor, 1), os.dup2(descriptor, 2)
    sys.stderr = sys.__stderr__  # a command that ran in the parent has given itself another one
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + BYTES, used + BYTES))
    spent = int(time.process_time()) + SECONDS
    resource.setrlimit(resource.RLIMIT_CPU, (spent, spent))
    signal.alarm(10 * SECONDS)  # for those that wait without working
    home = os.path.realpath(inside) + os.sep if inside else "\0"
    seen: set[str] = set()

    def tell(**what: Any) -> None:
        os.write(send, (json.dumps(what) + "\n").encode())

    def audit(event: str, given: tuple[Any, ...]) -> None:
        for path in _changed(event, given):
            if not (path + os.sep).startswith(home) and path not in seen:
                seen.add(path)
                tell(touched=f"{event} outside the run: {path}")

    sys.addaudithook(audit)
    for line in lines:
        code = 99
        try:
            command(line)
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 0
        except BaseException as error:
            print(f"Traceback: {error!r}")
        sys.stdout.flush(), sys.stderr.flush()
        tell(code=code)
    os._exit(0)


def _changed(event: str, given: tuple[Any, ...]) -> Iterator[str]:
    """Yield the real paths that an audited event of Python changes."""
    if event in NEVER:
        yield repr(given)[:200]
    elif event == "open" and isinstance(given[0], str | bytes) and isinstance(given[2], int) and given[2] & WRITES:
        yield from _real(given[0], -1, follow=True)
    elif event in CHANGES:
        for path, folder in zip(given[: 2 if event == "os.rename" else 1], (given[-1], given[-1]), strict=False):
            yield from _real(path, folder if isinstance(folder, int) else -1, follow=event == "os.truncate")


def _real(path: Any, folder: int, follow: bool) -> Iterator[str]:
    if isinstance(path, int):
        return
    base = Path(f"/proc/self/fd/{folder}").readlink() if folder >= 0 else Path.cwd()
    named = base / os.fsdecode(path)
    text = os.path.realpath(named) if follow else f"{os.path.realpath(named.parent)}/{named.name}"
    if text not in HARMLESS and not text.startswith(CACHE):
        yield text
