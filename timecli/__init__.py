"""timecli: edit what a text-to-image model assumes, as files under version control."""

__version__ = "0.1.0"

from timecli.api import apply, compile, everyday_world, load_manifest, plan, verify
from timecli.opened import Loaded, Model, loaded_maps, open_model

__all__ = [
    "Loaded",
    "Model",
    "apply",
    "compile",
    "everyday_world",
    "load_manifest",
    "loaded_maps",
    "open_model",
    "plan",
    "verify",
]
