"""What a user can get wrong, each as one sentence: the place, what was found, what to do."""

from __future__ import annotations


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
    """SIGINT or SIGTERM. Not an Exception, so that nothing on the way mistakes it for one."""


class OutputError(TimecliError):
    """The result cannot be written where it should go."""
