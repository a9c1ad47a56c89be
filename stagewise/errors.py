"""What can go wrong for a user: every error says what happened, where, and what to type next."""

from __future__ import annotations


class StagewiseError(Exception):
    """Something a user can act on; shown as its message, never as a traceback (exit code 1)."""

    exit_code = 1


class ConfigError(StagewiseError):
    """The pipeline file, an override or a command line is not usable (exit code 2)."""

    exit_code = 2


class DataError(StagewiseError):
    """An input item cannot be read as it is (exit code 1)."""


class InputError(StagewiseError, ValueError):
    """What was given in Python is not what an encoder takes (exit code 1)."""


class NumberError(StagewiseError):
    """A NaN, an infinity or an overflow where a number was expected (exit code 1)."""


class DiskError(StagewiseError):
    """The disk is full, read-only or failing (exit code 1)."""


class DiskFull(DiskError):
    """The disk has no room left (exit code 1)."""


class IntegrityError(StagewiseError):
    """Bytes on disk are not the bytes that were written (exit code 3)."""

    exit_code = 3


class Interrupted(StagewiseError):
    """A signal asked the run to stop; everything up to the last step is saved (exit code 128 + signal)."""

    def __init__(self, message: str, signal_number: int) -> None:
        super().__init__(message)
        self.exit_code = 128 + signal_number
