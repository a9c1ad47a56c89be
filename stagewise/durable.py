"""Durable writing: a file or a folder is there whole, or as it was before."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import hashlib
import io
import json
import os
import platform
import shutil
import stat
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from stagewise.errors import ConfigError, DiskError, DiskFull, IntegrityError

# The only way anything durable is written: temporary name, write, fsync, rename, fsync the folder.

PARTIAL = ".partial"  # suffix of everything not yet published
TRASH = ".trash-"  # prefix of a folder on its way out
# What the system says where a name is no file: that is damage. All else it refuses says nothing of what lies there.
NO_FILE = (errno.EINVAL, errno.EISDIR, errno.ELOOP, errno.ENXIO, errno.ENOTDIR)


def write_bytes(path: Path, blocks: bytes | memoryview | Iterable[bytes | memoryview]) -> str:
    """Write a file so that after a crash it is whole or absent, and return the sha256 of its bytes.

    Raises:
        DiskError: the disk is full, read-only or failing.
    """
    if isinstance(blocks, bytes | memoryview):
        blocks = (blocks,)
    digest = hashlib.sha256()
    partial = path.with_name(path.name + PARTIAL)
    with disk_errors(path):
        try:
            with partial.open("wb") as file:
                for block in blocks:
                    file.write(block)
                    digest.update(block)
                file.flush()
                os.fsync(file.fileno())
            publish(partial, path)
        except OSError:
            with suppress(OSError):
                partial.unlink()
            raise
    return digest.hexdigest()


def write_json(path: Path, content: Any) -> str:
    """Write JSON as `write_bytes` does; keys keep their order, floats keep every digit."""
    return write_bytes(path, json.dumps(content, indent=1, allow_nan=False).encode() + b"\n")


def read_json(path: Path, advice: str) -> Any:
    """Read JSON that `write_json` wrote.

    Args:
        path: the file.
        advice: what the user should type when it is damaged.

    Raises:
        IntegrityError: the file is missing or is not JSON.
        OSError: the system refuses to read it.
    """
    try:
        return json.loads(read_bytes(path))
    except FileNotFoundError:
        raise IntegrityError(f"{path} is missing. {advice}") from None
    except OSError as error:
        if error.errno not in NO_FILE:
            raise
        raise IntegrityError(f"{path} cannot be read ({error.strerror}). {advice}") from None
    except (ValueError, RecursionError) as error:
        raise IntegrityError(f"{path} is damaged ({error}). {advice}") from None


def write_sealed(path: Path, content: dict[str, Any]) -> str:
    """Write JSON as `write_json` does, with a hash of itself, so that a changed digit shows."""
    return write_json(path, {**content, "own_sha256": _own_hash(content)})


def read_sealed(path: Path, advice: str) -> dict[str, Any]:
    """Read what `write_sealed` wrote, without the hash.

    Args:
        path: the file.
        advice: what the user should type when it is damaged.

    Raises:
        IntegrityError: the file is missing, is not JSON, or is not what was written.
    """
    content = read_json(path, advice)
    if not isinstance(content, dict) or content.pop("own_sha256", None) != _own_hash(content):
        raise IntegrityError(f"{path} is damaged (it is not what was written). {advice}")
    return content


def _own_hash(content: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def append_line(path: Path, content: Any) -> None:
    """Append one JSON line and fsync it; a torn line that a crash has left is ended first."""
    with disk_errors(path), path.open("a+b") as file:
        if end := file.tell():
            file.seek(end - 1)
            if file.read(1) != b"\n":
                file.write(b"\n")
        file.write(json.dumps(content, allow_nan=False).encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())


def read_lines(path: Path) -> list[Any]:
    """Read the whole lines that `append_line` wrote; those torn by a crash while appending are left out."""
    if not path.exists():
        return []
    lines = []
    for line in read_bytes(path).split(b"\n")[:-1]:
        with suppress(ValueError):
            lines.append(json.loads(line))
    return lines


def publish(partial: Path, path: Path) -> None:
    """Give a finished, fsynced file or folder its final name, durably."""
    os.replace(partial, path)
    fsync_folder(path.parent)


def fsync_file(path: Path) -> None:
    """Force a file that something else wrote to the disk."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


def fsync_folder(folder: Path) -> None:
    """Force a folder's entries (renames, new names) to the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove(path: Path) -> None:
    """Delete a file or folder so that a crash leaves it whole or gone: renamed to `.trash-…` first."""
    if not path.exists() and not path.is_symlink():
        return
    trash = path.with_name(TRASH + path.name)
    with disk_errors(path):
        if trash.exists() or trash.is_symlink():
            _delete(trash)
        publish(path, trash)
        _delete(trash)


def sweep(folder: Path) -> list[Path]:
    """Delete what a crash left unpublished in `folder` (not below it) and return what was deleted."""
    with disk_errors(folder):
        leftovers = [p for p in folder.iterdir() if p.name.endswith(PARTIAL) or p.name.startswith(TRASH)]
        for path in leftovers:
            _delete(path)
    return leftovers


def _delete(path: Path) -> None:
    shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


def open_file(path: Path) -> io.BufferedReader:
    """Open a file to read it; a device or a pipe under its name, which might never end, is refused.

    Raises:
        OSError: it is not there, cannot be read, or is no file.
    """
    # A pipe that nobody writes to would not even open.
    file = open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK))  # noqa: SIM115
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise OSError(errno.EINVAL, "not a file", str(path))
    return file


def read_bytes(path: Path) -> bytes:
    """Read a file whole, as `open_file` opens it."""
    with open_file(path) as file:
        return file.read()


def file_state(path: Path) -> tuple[int, ...]:
    """Return what tells a file that was read from another in its place, to be compared for sameness alone.

    Raises:
        OSError: it is not there, or cannot be looked at.
    """
    found = path.stat()
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


def sha256_of(path: Path) -> str:
    """Hash a file in bounded memory, as `open_file` opens it."""
    with open_file(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn the operating system's words about a disk into ours."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskFull(
                f"disk full at {path}: free some space, then type the same command again; "
                "everything committed before is intact."
            ) from error
        if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
            raise DiskError(
                f"cannot write {path} ({error.strerror}): make its folder writable, or name another one (--run, --out)."
            ) from error
        if error.errno == errno.EIO:
            raise DiskError(
                f"input/output error at {path}: check the disk, then type the same command again; "
                "everything committed before is intact."
            ) from error
        raise


@contextmanager
def disk_errors_below(folder: Path) -> Iterator[None]:
    """Do as `disk_errors` for what nothing nearer has put into words; errors of files that lie elsewhere pass."""
    try:
        yield
    except OSError as error:
        if error.filename is not None and not Path(os.fsdecode(error.filename)).is_relative_to(folder):
            raise
        with disk_errors(folder):
            raise


# Files and folders that appear under their name when they are whole; what was there is replaced in one step.

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
