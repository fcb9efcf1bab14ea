"""What a user can get wrong, each as one sentence: the place, what was found, what to do."""

from __future__ import annotations

import errno
import signal
from collections.abc import Iterator
from contextlib import contextmanager

MOST = 300
"""Letters of a library's message that a sentence repeats."""
NO_MEMORY = (
    "allocate memory",  # torch on Linux, and the system's own words
    "not enough memory",  # torch on Windows
    "out of memory",  # torch on a GPU
    "unable to mmap",
    "failed to map segment",  # a shared library that does not fit
    "can't start new thread",
)
"""How libraries say that there is no memory left, whatever they raise."""


class TimecliError(Exception):
    """A mistake that the user can mend. The command line prints the sentence and exits with 2."""


class ManifestError(TimecliError):
    """The manifest cannot be read or asks for something that makes no sense."""


class PromptError(TimecliError):
    """A prompt cannot be encoded, or a pair cannot be aligned."""


class CheckpointError(TimecliError):
    """A model file cannot be read, is of an unknown kind, or holds unusable numbers."""


class DeltaError(TimecliError):
    """A delta file cannot be read or does not belong to the model."""


class Interrupted(BaseException):
    """SIGINT, or the signal that it is given. Not an Exception, so that nothing on the way mistakes it for one.

    Attributes:
        resumes: whether the same command goes on where this one was stopped.
    """

    resumes = False

    @property
    def code(self) -> int:
        """The exit code, as shells have it for a signal."""
        number: int = self.args[0] if self.args else signal.SIGINT
        return 128 + number


class OutputError(TimecliError):
    """The result cannot be written where it should go."""


def out_of_memory(error: BaseException | None) -> bool:
    """Whether an error, or what it came from, says that there is no memory left."""
    if error is None:
        return False
    if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == errno.ENOMEM):
        return True
    library = isinstance(error, RuntimeError | ImportError) or type(error).__name__ == "SafetensorError"
    said = library and any(mark in str(error).lower() for mark in NO_MEMORY)
    return said or out_of_memory(error.__cause__)


def one_line(error: BaseException) -> str:
    """What an error says, or its kind where it says nothing, on one line and not too long."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= MOST else f"{text[:MOST]} ..."


@contextmanager
def explained(
    what: str, way_out: str = "use another copy", kind: type[TimecliError] = CheckpointError
) -> Iterator[None]:
    """Inside, whatever a library raises over a user's file becomes a sentence: `what`, what it says, and the way out.

    Raises:
        TimecliError: of that kind, in place of any error but ours and a lack of memory.
    """
    try:
        yield
    except Exception as error:
        if isinstance(error, TimecliError) or out_of_memory(error):
            raise
        raise kind(f"{what}: {one_line(error).rstrip('.')}; {way_out}.") from error
