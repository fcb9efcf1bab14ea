"""timecli: edit what a text-to-image model assumes, as files under version control."""

__version__ = "0.1.0"
