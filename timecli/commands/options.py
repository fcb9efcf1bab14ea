"""The arguments and options of the command line, and what their values mean."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from timecli.commands import terminal
from timecli.errors import TimecliError
from timecli.manifests.kinds import MOST_GUIDANCE, MOST_SEEDS, MOST_STEPS

if TYPE_CHECKING:
    import torch


def finite(value: float | None) -> float | None:
    """Refuse NaN, which lies in no range and outside of none."""
    if value is not None and not math.isfinite(value):
        raise typer.BadParameter(f"{value} is not a finite number.")
    return value


DEVICES = re.compile(r"auto|cpu|mps|cuda(:\d{1,3})?")
ITEMSIZES = {"keep": None, "fp16": 2, "bf16": 2, "fp32": 4}
"""What --dtype takes, and the bytes of a number then."""


def choice(value: str, option: str, choices: Collection[str]) -> str:
    """`value`, if it is one of `choices`."""
    if value not in choices:
        raise TimecliError(f"{option} {value} is not known; use {', '.join(choices)}.")
    return value


def one_of(option: str, *choices: str) -> Callable[[str | None], str | None]:
    """What refuses any other value of an option, if one is given."""

    def check(value: str | None) -> str | None:
        return None if value is None else choice(value, option, choices)

    return check


def _device(value: str) -> str:
    """Refuse what is no device on any machine before torch is loaded to look for it."""
    if not DEVICES.fullmatch(value):
        raise TimecliError(f"--device {value} is not available here; use auto, cpu, cuda, cuda:N or mps.")
    return value


ModelPath = Annotated[Path, typer.Argument(metavar="MODEL", help="Single .safetensors file or diffusers folder.")]
ManifestPaths = Annotated[
    list[Path], typer.Argument(metavar="MANIFEST... MODEL", help="Manifests, and the model last.")
]
PlannedPaths = Annotated[
    list[Path], typer.Argument(metavar="MANIFEST... [MODEL]", help="Manifests, and the model to forecast with.")
]
VerifiedPaths = Annotated[
    list[Path],
    typer.Argument(
        metavar="MANIFEST... MODEL [EDITED]",
        help="Manifests, the model, and an edited model or delta; without EDITED the edit is made in memory.",
    ),
]
DeltaPaths = Annotated[
    list[Path],
    typer.Argument(metavar="DELTA... MODEL", help="Delta files, and the model last."),
]
DeltaPath = Annotated[Path, typer.Argument(metavar="DELTA", help="Delta file, from `timecli edit --delta`.")]
EditOutput = Annotated[
    Path | None, typer.Option("-o", "--output", help="Edited model. [default: <model>-<manifest name>, in this folder]")
]
ApplyOutput = Annotated[
    Path | None, typer.Option("-o", "--output", help="Edited model. [default: <model>-<delta's name>, in this folder]")
]
AdapterOutput = Annotated[Path, typer.Option("-o", "--output", help="Adapter file (.safetensors).")]
AdapterFormat = Annotated[
    str | None,
    typer.Option(
        "--format",
        callback=one_of("--format", "lora", "peft", "diff"),
        help="lora (kohya's names), peft (diffusers' own), or diff (dense). [default: lora; peft for SD 3, FLUX.1, "
        "Chroma]",
    ),
]
AdapterDtype = Annotated[
    str, typer.Option("--dtype", callback=one_of("--dtype", "fp16", "bf16", "fp32"), help="fp16, bf16 or fp32.")
]
Rank = Annotated[
    int | None,
    typer.Option("--rank", min=1, help="Keep at most this many columns of the edit. [default: those of 100 MB]"),
]
Tolerance = Annotated[
    float | None,
    typer.Option(
        "--tolerance",
        min=0.0,
        max=1.0,
        callback=finite,
        help="Drop columns while no more than this share of the edit is lost. [default: 0.01]",
    ),
]
AnyFile = Annotated[Path, typer.Argument(metavar="FILE", help="Model or delta.")]
Textconv = Annotated[
    bool, typer.Option("--textconv", help="Print only the manifests, or what the file is, for `git diff`.")
]
DeltaOutput = Annotated[
    Path | None, typer.Option("--delta", help="Write the edit as a delta file; without -o, only that.")
]
ReportFolder = Annotated[
    Path | None, typer.Option("-o", "--output", help="Folder for the report. [default: <manifest name>-verify]")
]
Config = Annotated[
    Path | None,
    typer.Option("--config", help="Diffusers folder with configs and tokenizer. [default: 'config' next to the file]"),
]
ComfyUI = Annotated[
    Path | None,
    typer.Option(
        "--comfyui",
        help="Folder of ComfyUI: MODEL may be a name that it lists; what is missing is found there, and text is read "
        "as ComfyUI reads it.",
    ),
]
ComfyUINames = Annotated[
    Path | None, typer.Option("--comfyui", help="Folder of ComfyUI: MODEL may be a name that it lists.")
]
Tokenizer = Annotated[
    Path | None, typer.Option("--tokenizer", help="Tokenizer folder. [default: the config's, else CLIP's own]")
]
TextEncoders = Annotated[
    list[Path] | None,
    typer.Option(
        "--text-encoder", help="Model or text encoder (file or folder), if MODEL has none; give it once for each."
    ),
]
ClipSkip = Annotated[
    int | None,
    typer.Option(
        "--clip-skip",
        min=1,
        max=999,
        help="Layer of the text encoder, counted from the last. [default: the manifest's, else 1]",
    ),
]
Length = Annotated[
    int | None,
    typer.Option(
        "--length",
        min=1,
        max=MOST_SEEDS,
        help="Positions that T5's text is filled up to. [default: the manifest's, else as diffusers]",
    ),
]
EverydayFile = Annotated[
    Path | None, typer.Option("--everyday", help="File of everyday prompts that `timecli everyday` wrote for MODEL.")
]
NoCache = Annotated[bool, typer.Option("--no-cache", help="Encode the everyday prompts again, and keep nothing.")]
InPlace = Annotated[
    bool,
    typer.Option("--in-place", help="Replace MODEL (in a folder only the edited files) when the copies are complete."),
]
WithConfig = Annotated[bool, typer.Option("--with-config", help="Copy MODEL's .yaml, too, under the output's name.")]
LeaveEma = Annotated[bool, typer.Option("--leave-ema", help="Leave moving averages (model_ema.*) as they are.")]
NoRecipe = Annotated[bool, typer.Option("--no-recipe", help="Leave manifest and prompts out of the output's metadata.")]
WithHash = Annotated[
    bool, typer.Option("--hash", help="Write the SHA-256 of the output into its metadata, and print it.")
]
Strength = Annotated[
    float,
    typer.Option(
        "--strength", min=-1.0, max=2.0, callback=finite, help="How much of the edit to apply: 1 all of it, 0 none."
    ),
]
Seeds = Annotated[
    int | None,
    typer.Option("--seeds", min=1, max=MOST_SEEDS, help="Pictures per prompt. [default: the manifest's, else 8]"),
]
Steps = Annotated[
    int | None,
    typer.Option(
        "--steps", min=1, max=MOST_STEPS, help="Denoising steps. [default: the manifest's, else the model kind's]"
    ),
]
Guidance = Annotated[
    float | None,
    typer.Option(
        "--guidance",
        min=0.0,
        max=MOST_GUIDANCE,
        callback=finite,
        help="Classifier-free guidance scale. [default: the manifest's, else the model kind's]",
    ),
]
Precision = Annotated[
    str,
    typer.Option(
        "--precision",
        callback=one_of("--precision", "auto", "fp32", "fp16", "bf16"),
        help="Numbers to draw with: auto (fp16 with CUDA, else fp32), fp32, fp16 or bf16.",
    ),
]
JudgePath = Annotated[
    Path | None,
    typer.Option("--judge", help="CLIP model folder that measures pictures. [default: 'judge' next to MODEL]"),
]
Device = Annotated[str, typer.Option("--device", callback=_device, help="auto, cpu, cuda, cuda:N or mps.")]
Dtype = Annotated[
    str,
    typer.Option(
        "--dtype",
        callback=one_of("--dtype", *ITEMSIZES),
        help="keep, fp16, bf16 or fp32: convert every float tensor of the output.",
    ),
]
Force = Annotated[bool, typer.Option("--force", help="Replace an existing output.")]
Stack = Annotated[
    bool, typer.Option("--stack", help="Edit a model that already carries a timecli edit; order matters then.")
]
Undo = Annotated[
    bool, typer.Option("--undo", help="Take the edits of DELTA... out of MODEL again, the last one first.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON to stdout; docs/output.md has its schema.")]
Quiet = Annotated[
    bool, typer.Option("-q", "--quiet", callback=terminal.hush, help="Print only errors, and what --json prints.")
]
Verbose = Annotated[bool, typer.Option("-v", "--verbose", help="Print every tensor, the operator and the time, too.")]
TriedLambda = Annotated[
    float | None,
    typer.Option("--lambda", min=1e-12, max=1e12, callback=finite, help="Try another λ. [default: the manifest's]"),
]
TriedWeight = Annotated[
    float | None,
    typer.Option(
        "--everyday-weight", min=0.0, max=1e12, callback=finite, help="Try another weight of the everyday prompts."
    ),
]
TriedStrength = Annotated[
    float | None,
    typer.Option("--strength", min=0.0, max=10.0, callback=finite, help="Try another strength for all edits."),
]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]


def pick_device(name: str) -> torch.device:
    """The device of that name; "auto" takes the best one there is."""
    import torch

    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).cpu()  # "meta" is a device without numbers
    except (RuntimeError, AssertionError) as error:
        raise TimecliError(f"--device {name} is not available here; use auto, cpu, cuda, cuda:N or mps.") from error
    return device


def exact_device(device: torch.device) -> torch.device:
    """Where to calculate in float64, which MPS lacks."""
    return pick_device("cpu") if device.type == "mps" else device


def pick_precision(name: str, device: torch.device) -> torch.dtype:
    """What to draw in. Edits are solved in float64 and multiplied in float32 at any rate."""
    from timecli.files.tensors import DTYPES

    return DTYPES[("fp16" if device.type == "cuda" else "fp32") if name == "auto" else name]


def pick_dtype(name: str) -> torch.dtype | None:
    """The dtype to convert to; None for "keep"."""
    from timecli.files.tensors import DTYPES

    return DTYPES.get(name)
