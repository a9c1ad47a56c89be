"""Files and folders that appear under their name when they are whole; what was there is replaced in one step."""

from __future__ import annotations

import ctypes
import fcntl
import os
import platform
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from stagewise.atomic import PARTIAL, disk_errors, fsync_file, fsync_folder, publish
from stagewise.errors import ConfigError

PREFIX = "stagewise-"  # of the folder that something is made in
HELD = "held-by"  # says there that it is ours and locked, and on which host
NEW, OLD = "new", "old"  # what is made there, and what it replaces in two steps
HERE, EXCHANGE = -100, 2  # AT_FDCWD and RENAME_EXCHANGE of Linux


@contextmanager
def publishing(path: Path) -> Iterator[Path]:
    """Give a place for a file or a folder that the body writes; it gets its name when it is whole and on the disk.

    The place is this call's own. What was there under that name when it began is replaced; what came there since is
    not. What fails leaves nothing; what a kill has left is taken away by the next call in the same folder on the same
    host, where the file system has locks.

    Raises:
        ConfigError: somebody else has put something there meanwhile.
        DiskError: the disk is full, read-only or failing.
    """
    # The folder where one is may be the one that is replaced; a link that is named is.
    path = path.resolve() if path.name in ("", "..") else path.parent.resolve() / path.name
    with disk_errors(path):
        _sweep(path.parent)
        with (
            tempfile.TemporaryDirectory(PARTIAL, PREFIX, path.parent, ignore_cleanup_errors=True) as own,
            _held(Path(own)),
        ):
            before, partial = _identity(path), Path(own, NEW, path.name)
            partial.parent.mkdir()
            yield partial
            for folder, _, files in os.walk(partial):
                for name in files:
                    fsync_file(Path(folder, name))
                fsync_folder(Path(folder))
            if not partial.is_dir():
                fsync_file(partial)
            if _identity(path) != before:
                raise ConfigError(
                    f"{path} was written by somebody else meanwhile, and is left as it is: delete it, or name another, "
                    "then type the same command again."
                )
            if path.is_dir() and not path.is_symlink():
                _exchange(partial, path)  # nothing takes the place of a folder that holds something
                fsync_folder(path.parent)
            else:
                publish(partial, path)


def _exchange(new: Path, path: Path) -> None:
    """Swap what lies at two places in one step; in two, between which nothing is there, where the system cannot."""
    swap = getattr(ctypes.CDLL(None), "renameat2", None)
    if swap is not None and swap(HERE, os.fsencode(new), HERE, os.fsencode(path), EXCHANGE) == 0:
        return
    old = new.parent.with_name(OLD) / path.name
    old.parent.mkdir()
    os.replace(path, old)
    try:
        os.replace(new, path)
    except BaseException:
        if not os.path.lexists(path):
            os.replace(old, path)
            raise
        kept = Path(tempfile.mkdtemp("", f"{path.name}-{OLD}-", path.parent)) / path.name
        os.replace(old, kept)
        raise ConfigError(
            f"{path} was written by somebody else meanwhile, and is left as it is; what was there before is {kept}."
        ) from None


@contextmanager
def _held(own: Path) -> Iterator[None]:
    """Hold a new folder's lock, which the system frees when a process dies, and say so in it.

    Nobody else locks it before it says so. Where a file system has no such locks, it does not.
    """
    descriptor = os.open(own, os.O_RDONLY)
    try:
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            (own / HELD).write_text(platform.node())
        yield
    finally:
        os.close(descriptor)


def _sweep(folder: Path) -> None:
    """Take away what processes of this host that were killed have left in a folder, and put back what they replaced."""
    for left in folder.glob(f"{PREFIX}*{PARTIAL}"):
        with suppress(OSError, UnicodeDecodeError):
            if (left / HELD).read_text() != platform.node():
                continue
            descriptor = os.open(left, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                for old in (left / OLD).glob("*"):
                    if not os.path.lexists(place := folder / old.name):
                        os.replace(old, place)
                shutil.rmtree(left, ignore_errors=True)
            finally:
                os.close(descriptor)


def _identity(path: Path) -> set[tuple[object, ...]]:
    """Tell what lies at a place from what is put there, or into it, later; no order of times is looked at."""
    found = {_facts(path)}
    if path.is_dir() and not path.is_symlink():
        found |= {_facts(Path(folder, name)) for folder, _, files in os.walk(path) for name in files}
    return found


def _facts(path: Path) -> tuple[object, ...]:
    try:
        status = path.lstat()
    except FileNotFoundError:
        return (path,)
    written = None if stat.S_ISDIR(status.st_mode) else (status.st_size, status.st_mtime_ns)
    return path, status.st_dev, status.st_ino, written
