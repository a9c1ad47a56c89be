"""A disk that fails: counts every durable operation below a folder, and does harm at the N-th.

What counts: to create a file, to write to one, fsync, rename, link, unlink, mkdir, rmdir, by our code or a library's.
What harm:

    kill     SIGKILL before the operation
    torn     SIGKILL after half of a write's bytes reached the disk
    power    SIGKILL, and everything that no fsync has forced to the disk is lost: names, renames, contents
    ENOSPC   the disk is full from then on: all that needs room fails (a write after half of its bytes)
    EIO      the operation fails once
    SIGTERM, SIGINT, SIGHUP   the signal, and the operation goes on

Meant for a forked child: what it patches stays patched.
"""

from __future__ import annotations

import builtins
import errno
import io
import os
import shutil
import signal
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

KINDS = ("kill", "torn", "power", "ENOSPC", "EIO", "SIGTERM", "SIGINT", "SIGHUP")
ROOM = {"create", "write", "rename", "link", "mkdir", "fsync"}
COUNTED = {"torn": {"write"}, "ENOSPC": ROOM}  # for the other kinds: every operation
REAL = {name: getattr(os, name) for name in ("open", "fsync", "replace", "rename", "link", "unlink", "mkdir", "rmdir")}
REAL_OPEN = io.open


class Disk:
    """Counts operations below `folder`; harm is done at operation `number` (0: never).

    Args:
        folder: of which operations count.
        kind: of KINDS.
        number: of the operation, from 1.
        log: file that gets the number of the operation when harm is done; outside `folder`.
    """

    def __init__(self, folder: Path, kind: str, number: int, log: Path) -> None:
        self.folder, self.kind, self.number, self.log = os.path.realpath(folder), kind, number, log
        self.count, self.lock, self.full = 0, threading.RLock(), False
        self.unsynced = Unsynced(log.with_suffix(".lost")) if kind == "power" else None

    def patch(self) -> None:
        """Put this disk under the whole process."""
        builtins.open = io.open = self._open_file  # type: ignore[assignment]
        for name in ("fsync", "replace", "rename", "link", "unlink", "mkdir", "rmdir"):
            setattr(os, name, getattr(self, f"_{name}"))
        os.remove = self._unlink  # type: ignore[assignment]
        os.open = self._os_open  # type: ignore[assignment]

    def operation(self, what: str, path: str, half: Callable[[], None] | None = None) -> None:
        """Count an operation that is about to happen, and do the harm if it is its turn."""
        with self.lock:
            if not self._inside(path):
                return
            if what not in COUNTED.get(self.kind, {what}):
                return
            self.count += 1
            if self.full:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)
            if self.count != self.number:
                return
            with REAL_OPEN(self.log, "w") as log:
                log.write(f"{self.count} {what} {os.path.relpath(path, self.folder)}")
            if half is not None and self.kind in ("torn", "ENOSPC"):
                half()
            if self.unsynced is not None:
                self.unsynced.lose()
            if self.kind in ("kill", "torn", "power"):
                os.kill(os.getpid(), signal.SIGKILL)
            elif self.kind.startswith("SIG"):
                os.kill(os.getpid(), signal.Signals[self.kind])
            else:
                self.full = self.kind == "ENOSPC"
                number = getattr(errno, self.kind)
                raise OSError(number, os.strerror(number), path)

    def _inside(self, path: str) -> bool:
        return path == self.folder or path.startswith(self.folder + os.sep)

    def _open_file(self, file: Any, mode: str = "r", *args: Any, **kwargs: Any) -> Any:
        if isinstance(file, int) or not set(mode) & set("wax+"):
            return REAL_OPEN(file, mode, *args, **kwargs)
        path = _absolute(file)
        if not self._inside(path):
            return REAL_OPEN(file, mode, *args, **kwargs)
        if not os.path.exists(path) or "w" in mode:
            self.operation("create", path)
            if self.unsynced is not None:
                self.unsynced.create(path)
        opened = REAL_OPEN(file, mode, *args, **kwargs)
        return File(opened, path, self)

    def _os_open(self, path: Any, flags: int, *args: Any, **kwargs: Any) -> int:
        if flags & os.O_CREAT and not isinstance(path, int) and not os.path.exists(path):
            self.operation("create", _absolute(path, kwargs.get("dir_fd")))
        return REAL["open"](path, flags, *args, **kwargs)

    def _fsync(self, file: Any) -> None:
        path = os.readlink(f"/proc/self/fd/{file if isinstance(file, int) else file.fileno()}")
        self.operation("fsync", path)
        REAL["fsync"](file)
        if self.unsynced is not None:
            self.unsynced.synced(path)

    def _replace(self, old: Any, new: Any, **kwargs: Any) -> None:
        self._moved("replace", old, new, kwargs)

    def _rename(self, old: Any, new: Any, **kwargs: Any) -> None:
        self._moved("rename", old, new, kwargs)

    def _moved(self, name: str, old: Any, new: Any, kwargs: dict[str, Any]) -> None:
        paths = _absolute(old, kwargs.get("src_dir_fd")), _absolute(new, kwargs.get("dst_dir_fd"))
        self.operation("rename", paths[1])
        with self.lock:
            if self.unsynced is not None and self._inside(paths[1]):
                self.unsynced.rename(*paths)
            REAL[name](old, new, **kwargs)

    def _link(self, old: Any, new: Any, **kwargs: Any) -> None:
        self.operation("link", _absolute(new))
        if self.unsynced is not None and self._inside(_absolute(new)):
            self.unsynced.create(_absolute(new))
        REAL["link"](old, new, **kwargs)

    def _unlink(self, path: Any, *, dir_fd: int | None = None) -> None:
        self.operation("unlink", _absolute(path, dir_fd))
        if self.unsynced is not None and self._inside(_absolute(path, dir_fd)):
            self.unsynced.unlink(_absolute(path, dir_fd))
        REAL["unlink"](path, dir_fd=dir_fd)

    def _mkdir(self, path: Any, mode: int = 0o777, *, dir_fd: int | None = None) -> None:
        if os.path.exists(path):
            REAL["mkdir"](path, mode, dir_fd=dir_fd)  # which raises FileExistsError
        self.operation("mkdir", _absolute(path, dir_fd))
        REAL["mkdir"](path, mode, dir_fd=dir_fd)
        if self.unsynced is not None and self._inside(_absolute(path, dir_fd)):
            self.unsynced.mkdir(_absolute(path, dir_fd))

    def _rmdir(self, path: Any, *, dir_fd: int | None = None) -> None:
        self.operation("rmdir", _absolute(path, dir_fd))
        if self.unsynced is not None and self._inside(_absolute(path, dir_fd)):
            self.unsynced.rmdir(_absolute(path, dir_fd))
        REAL["rmdir"](path, dir_fd=dir_fd)


class File:
    """A file open for writing whose writes count."""

    def __init__(self, file: Any, path: str, disk: Disk) -> None:
        self._file, self._path, self._disk = file, path, disk

    def write(self, content: Any) -> Any:
        def half() -> None:
            self._file.write(content[: len(content) // 2])
            self._file.flush()

        self._disk.operation("write", self._path, half)
        if self._disk.unsynced is not None:
            self._disk.unsynced.written(self._path)
        return self._file.write(content)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def __enter__(self) -> File:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def __iter__(self) -> Any:
        return iter(self._file)


class Unsynced:
    """What a power cut would lose: names that no fsync of their folder, contents that no fsync has forced to disk."""

    def __init__(self, backup: Path) -> None:
        self.backup, self.names = str(backup), 0
        self.undo: list[tuple[str, Callable[[], None]]] = []  # folder whose fsync makes it last, how to undo it
        self.contents: dict[str, int] = {}  # bytes that are known to be on the disk
        REAL["mkdir"](self.backup)

    def create(self, path: str) -> None:
        if not os.path.exists(path):
            self.undo.append((os.path.dirname(path), lambda: _gone(path)))

    def written(self, path: str) -> None:
        self.contents.setdefault(path, os.path.getsize(path))

    def rename(self, old: str, new: str) -> None:
        kept = self._keep(new)

        def undo() -> None:
            if os.path.exists(new):
                REAL["rename"](new, old)
            if kept:
                REAL["link"](kept, new)

        self.undo.append((os.path.dirname(new), undo))
        self.contents = {_moved(path, old, new): size for path, size in self.contents.items()}

    def unlink(self, path: str) -> None:
        kept = self._keep(path)
        self.undo.append((os.path.dirname(path), lambda: kept and os.path.isdir(os.path.dirname(path)) and not
                          os.path.exists(path) and REAL["link"](kept, path)))  # fmt: skip
        self.contents.pop(path, None)

    def mkdir(self, path: str) -> None:
        self.undo.append((os.path.dirname(path), lambda: _gone(path)))

    def rmdir(self, path: str) -> None:
        self.undo.append((os.path.dirname(path), lambda: os.path.isdir(path) or REAL["mkdir"](path)))

    def synced(self, path: str) -> None:
        self.contents.pop(path, None)
        self.undo = [(folder, undo) for folder, undo in self.undo if folder != path]

    def lose(self) -> None:
        """Take back, the latest first, everything that was not forced to the disk."""
        for path, safe in self.contents.items():
            if os.path.isfile(path):
                os.truncate(path, safe + (os.path.getsize(path) - safe) // 2)
        for _, undo in reversed(self.undo):
            with suppress(OSError):  # a folder around it was renamed since, and that is forced to the disk
                undo()

    def _keep(self, path: str) -> str:
        if not os.path.isfile(path) or os.path.islink(path):
            return ""
        self.names += 1
        kept = os.path.join(self.backup, str(self.names))
        REAL["link"](path, kept)
        return kept


def _moved(path: str, old: str, new: str) -> str:
    return new + path[len(old) :] if path == old or path.startswith(old + os.sep) else path


def _gone(path: str) -> None:
    os.remove = REAL["unlink"]  # type: ignore[assignment]
    for name, function in REAL.items():
        setattr(os, name, function)
    shutil.rmtree(path) if os.path.isdir(path) else os.path.lexists(path) and os.unlink(path)


def _absolute(path: Any, dir_fd: int | None = None) -> str:
    if isinstance(path, int):
        return os.readlink(f"/proc/self/fd/{path}")
    base = os.getcwd() if dir_fd is None else os.readlink(f"/proc/self/fd/{dir_fd}")
    return os.path.join(os.path.realpath(os.path.join(base, os.path.dirname(os.fsdecode(path)))),
                        os.path.basename(os.fsdecode(path)))  # fmt: skip
