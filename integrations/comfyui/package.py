"""The package that the nodes on the MODEL need, and what they say where it is not there."""

from __future__ import annotations

NEEDED = "0.1"
"""The series of timecli's versions that these nodes are for."""


def require() -> None:
    """Refuse to go on without timecli, or with another one.

    Raises:
        RuntimeError: it is not there, is another program of that name, or of another series.
    """
    way_out = "install requirements.txt of this node's folder with ComfyUI's own Python, and start ComfyUI again."
    try:
        import timecli
    except ImportError as error:
        raise RuntimeError(
            f"this node needs the package timecli, which cannot be loaded ({error}); {way_out}"
        ) from error
    found = getattr(timecli, "__version__", "unknown") if hasattr(timecli, "Loaded") else "of another program"
    if ".".join(found.split(".")[:2]) != NEEDED:
        raise RuntimeError(f"this node needs timecli {NEEDED}, and the one that is installed is {found}; {way_out}")
