"""What a single file says that its UNet predicts: the noise (epsilon), or the velocity v of noise and picture.

The same weights drawn as the other kind give noise. Files say it by tensors without numbers, by a `.yaml` beside them,
or by their metadata; a config that many files share knows nothing of it. A folder has it in its scheduler's config.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from timecli.errors import CheckpointError
from timecli.files.foreign import read_config, read_text
from timecli.models.checkpoint import Checkpoint
from timecli.shown import brief

V_KEY, ZERO_KEY = "v_pred", "ztsnr"
"""Tensors, mostly without a number, that say v-prediction and zero terminal SNR (the last step begins with noise)."""
EDM_KEYS = ("edm_vpred.sigma_max", "edm_mean", "edm_std")
"""Tensors that say the noise schedule of EDM, which CosXL and Playground 2.5 have."""
METADATA = "modelspec.prediction_type"
PARAMETERIZATION = re.compile(
    r"^[^#\n]*?\b(?:parameterization[\"']?\s*:\s*[\"']?(\w+)|target[\"']?\s*:\s*\S+\.(V|Eps)Scaling\b)", re.MULTILINE
)
"""How a `.yaml` of Stability AI's code says it, for SD 2 and for SDXL."""
NAMES = {
    "v": "v_prediction", "vprediction": "v_prediction", "vpred": "v_prediction", "velocity": "v_prediction",
    "eps": "epsilon", "epsilon": "epsilon",
}  # fmt: skip
"""What files call it, in letters alone and small ones, and what diffusers does."""
SPOKEN = {"v_prediction": "v-prediction", "epsilon": "prediction of the noise"}


@dataclass(frozen=True)
class Prediction:
    """How a UNet's output is read.

    Attributes:
        kind: as diffusers' schedulers call it.
        zero_snr: whether the schedule ends in noise alone; steps are trailing then.
        source: what says so.
    """

    kind: str
    zero_snr: bool
    source: str

    @property
    def sentence(self) -> str:
        """For people."""
        more = ", with zero terminal SNR and trailing steps" if self.zero_snr else ""
        return f"drawn by {SPOKEN[self.kind]}{more}: {self.source}"


def stated(checkpoint: Checkpoint) -> Prediction | None:
    """What a single file of a UNet says of itself; None where its config decides.

    Tensors count before the `.yaml` and the metadata, which stay behind when files are merged or renamed.

    Raises:
        CheckpointError: it says something that is not drawn here.
    """
    if checkpoint.is_folder or checkpoint.family.by_pipeline:
        return None
    file = checkpoint.places[0].file
    if edm := next((key for key in EDM_KEYS if key in file.entries), None):
        raise CheckpointError(
            f"{checkpoint.path} has the noise schedule of EDM ({edm} is in it), which is drawn from a diffusers folder "
            "alone; give that of the model."
        )
    zero = ZERO_KEY in file.entries
    if V_KEY in file.entries:
        return Prediction("v_prediction", zero, f"{file.path.name} has {V_KEY}{f' and {ZERO_KEY}' if zero else ''}")
    beside = file.path.with_suffix(".yaml")
    if beside.is_file() and (match := PARAMETERIZATION.search(read_text(beside, "a config", CheckpointError))):
        return _told(match[1] or match[2], f"{beside}: parameterization", zero, f"{beside.name} says so")
    if said := file.metadata.get(METADATA):
        return _told(said, f"{file.path}: {METADATA}", zero, f"{METADATA} of {file.path.name} says so")
    return None


def of_scheduler(checkpoint: Checkpoint) -> Prediction | None:
    """What a folder's scheduler draws by, where that is the velocity; diffusers obeys its config itself."""
    folder = checkpoint.path if checkpoint.is_folder else checkpoint.config
    path = folder / "scheduler" / "scheduler_config.json" if folder else None
    if checkpoint.family.by_pipeline or path is None or not path.exists():
        return None
    about = read_config(path)
    if about.get("prediction_type") != "v_prediction":
        return None
    zero = about.get("rescale_betas_zero_snr") is True and about.get("timestep_spacing") == "trailing"
    return Prediction("v_prediction", zero, f"{path.name} of its scheduler says so")


def _told(said: str, where: str, zero: bool, source: str) -> Prediction:
    """What text says; a tensor that says zero terminal SNR holds of v-prediction alone."""
    if (found := NAMES.get(re.sub(r"[\W_]", "", said.lower()))) is None:
        raise CheckpointError(f"{where} is {brief(said)}; what is drawn here is v or epsilon.")
    zero = zero and found == "v_prediction"
    return Prediction(found, zero, f"{source}, and {ZERO_KEY} is in the file" if zero else source)
