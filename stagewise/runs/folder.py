"""Names and places in a run directory, its lock and its event log; nothing here knows what a stage is made of."""

from __future__ import annotations

import fcntl
import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from stagewise import durable
from stagewise.errors import ConfigError, StagewiseError

if TYPE_CHECKING:
    from stagewise.pipeline import Pipeline

LOCK_FILE = "pipeline.lock.json"
LOCK, HOLDER = "run.lock", "run.holder.json"  # of the one process that writes, and who it is
ITEMS = "items.csv"
OURS = ("stages", "probes", LOCK_FILE, "data.json", ITEMS, "events.jsonl", LOCK, HOLDER)
EXPORTED = {"config.json": b'"own_sha256"', "README.md": b"A frozen encoder, made with stagewise"}  # what stands there
LAST = Path("runs") / "last"  # below the current folder: which run commands without a run use


class RunFolder:
    """One run directory; holds no absolute path, so that it can be moved or copied."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def stage(self, index: int, name: str, fingerprint: str) -> Path:
        """Folder of a stage: order, name, first 8 hex digits of the fingerprint."""
        return self.path / "stages" / f"{index}-{name}-{fingerprint[:8]}"

    def probe(self, name: str, stage: str, fingerprint: str) -> Path:
        """Folder of a probe on a stage."""
        return self.path / "probes" / f"{name}-{stage}-{fingerprint[:8]}"

    def earlier(self, index: int, name: str) -> list[Path]:
        """Folders of a stage under any fingerprint."""
        return sorted((self.path / "stages").glob(f"{index}-{name}-????????"))

    @property
    def locked(self) -> dict[str, Any] | None:
        """What `pipeline.lock.json` says: the pipeline as it ran, and what was decided for it."""
        path = self.path / LOCK_FILE
        if not path.exists():
            return None
        advice = "Type `stagewise run FILE` with its pipeline file to write it again."
        from stagewise.pipeline import from_json  # help needs no pydantic
        from stagewise.runs.schemas import Lock, checked

        locked = checked(Lock, durable.read_sealed(path, advice), path, advice)
        # Keys that are younger than the run get their defaults: whoever reads it finds every key.
        return {**locked, "pipeline": from_json(locked["pipeline"]).model_dump(mode="json")}

    def lock(self, content: dict[str, Any]) -> None:
        """Write `pipeline.lock.json`, unless it says that already."""
        if self.locked != content:
            durable.write_sealed(self.path / LOCK_FILE, content)

    def event(self, kind: str, **facts: Any) -> None:
        """Add a line to the event log; time is written down, and never read back."""
        stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        durable.append_line(self.path / "events.jsonl", {"time": stamp, "kind": kind, **facts})

    @property
    def writer(self) -> dict[str, Any] | None:
        """Who is writing this run now: pid, host and since when; None if nobody is."""
        holder = self.path / HOLDER
        if not holder.exists():
            return None
        try:  # the lock decides: a process that was killed leaves its name behind
            with durable.open_file(self.path / LOCK) as lock:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return _holder(holder)
        except OSError:
            pass  # no lock, or none that can be asked for
        return None

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Be the only writer of this run while the body runs; the operating system frees a dead one's lock.

        Raises:
            ConfigError: the folder is a file, or something in it is a symbolic link.
            StagewiseError: another process is writing.
            DiskError: the folder cannot be written.
        """
        self.check_place()
        with durable.disk_errors(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
            lock = FileLock(self.path / LOCK, timeout=0.2)  # whoever asks for the writer has it for a moment
            holder = self.path / HOLDER
            try:
                lock.acquire()
            except Timeout:
                raise StagewiseError(f"{self.path} is {in_use(_holder(holder))}: wait for it, or stop it.") from None
        try:
            since = time.strftime("%H:%M", time.localtime())
            durable.write_json(holder, {"pid": os.getpid(), "host": socket.gethostname(), "since": since})
            for folder in (self.path, self.path / "stages", self.path / "probes"):
                if folder.is_dir():
                    durable.sweep(folder)
            yield
        finally:
            with suppress(OSError):  # it says nothing once the lock is free
                holder.unlink(missing_ok=True)
            lock.release()

    def check_place(self) -> None:
        """Refuse to write to, or delete, what lies elsewhere; the run directory itself may be a link.

        Raises:
            ConfigError: the folder is a file, or something in it is a symbolic link.
        """
        if any(place.is_file() for place in (self.path, *self.path.parents)):
            raise ConfigError(f"{self.path} is, or lies below, a file: name another folder with --run.")
        for name in OURS:
            below = os.walk(self.path / name) if (self.path / name).is_dir() else ()
            found = (Path(folder, inner) for folder, folders, files in below for inner in (*folders, *files))
            for path in (self.path / name, *found):
                if path.is_symlink():
                    raise ConfigError(
                        f"{path} is a symbolic link, and nothing is written or deleted through one. Type `rm {path}`, "
                        "and move what it names to its place if it is still wanted; to keep a run on another disk, "
                        "make the whole run directory a link."
                    )

    def remember(self) -> None:
        """Make this the run that commands without a run use, if it lies below the current folder."""
        # As it was named first: `runs` may be a link to another disk.
        for path in (self.path.absolute(), self.path.resolve()):
            if path.is_relative_to(Path.cwd()) and ".." not in path.parts:
                LAST.parent.mkdir(exist_ok=True)
                durable.write_bytes(LAST, os.fsencode(f"{path.relative_to(Path.cwd()).as_posix()}\n"))
                return


def find_run(path: Path | None) -> RunFolder:
    """Return the run at `path`, or the last one made below the current folder.

    Raises:
        ConfigError: there is none.
    """
    if path is None:
        if not LAST.exists():
            raise ConfigError("no run was made below this folder yet: type `stagewise run FILE`, or name its folder.")
        path = LAST if LAST.is_dir() else Path(os.fsdecode(durable.read_bytes(LAST).strip()))
    if not (path / LOCK_FILE).exists():
        from stagewise.pipeline.wording import did_you_mean

        if inside := sorted(file.parent for file in path.glob(f"*/{LOCK_FILE}")):
            raise ConfigError(f"{path} is not a run, but holds some: name one of them, such as {inside[0]}.")
        if is_export(path):
            raise ConfigError(
                f"{path} is an export, not a run: `stagewise embed {path} FILES --out x.npz` takes it, and in Python "
                f"stagewise.load({str(path)!r})."
            )
        meant = did_you_mean(str(path), runs_here())
        raise ConfigError(
            f"{path} is not a run (it has no {LOCK_FILE}){meant}: type `stagewise run FILE`, or name another."
        )
    return RunFolder(path)


def is_export(folder: Path) -> bool:
    """Whether a folder is an export, be it damaged, and not somebody's own with files of the same names."""
    for name, words in EXPORTED.items():
        with suppress(OSError):
            if words in durable.read_bytes(folder / name):
                return True
    return False


def runs_here() -> list[str]:
    """Return the paths of the runs below the current folder's `runs`."""
    return sorted(str(file.parent) for file in LAST.parent.glob(f"*/{LOCK_FILE}"))


def pipeline_of(run: RunFolder) -> Pipeline:
    """Return the pipeline that a run was made with.

    Raises:
        IntegrityError: the run's lock file is damaged.
    """
    from stagewise.pipeline import from_json

    locked = run.locked
    assert locked is not None
    return from_json(locked["pipeline"], str(run.path / LOCK_FILE))


def in_use(holder: dict[str, Any]) -> str:
    """Say who uses a run."""
    if holder["pid"] is None:
        return "in use by another process"
    return f"in use by pid {holder['pid']} on host {holder['host']} since {holder['since']}"


def _holder(path: Path) -> dict[str, Any]:
    keys = ("pid", "host", "since")
    try:
        facts = json.loads(durable.read_bytes(path))
        pid, host, since = (facts[key] for key in keys)
        if isinstance(pid, int) and isinstance(host, str) and isinstance(since, str):
            return {"pid": pid, "host": host[:200], "since": since[:40]}
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        pass
    return dict.fromkeys(keys)
