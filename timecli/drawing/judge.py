"""Images to source or destination, by CLIP as a zero-shot classifier (Orgad et al. 2023, §5.4)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from PIL.Image import Image
from PIL.Image import new as new_image
from transformers import CLIPConfig, CLIPModel, CLIPProcessor
from transformers.utils import logging

from timecli.errors import CheckpointError, explained
from timecli.files.safefile import finite, open_file, require_finite
from timecli.models.judges import require_judge
from timecli.text.sizes import require_no_larger, require_plausible
from timecli.text.tokenizers import require_text


@dataclass(frozen=True)
class Judge:
    """A CLIP model with its processor."""

    model: CLIPModel
    processor: CLIPProcessor

    @torch.no_grad()
    def choose(self, images: Sequence[Image], texts: Sequence[str]) -> list[int]:
        """For each image the index of the text that it shows, of `texts`."""
        inputs = self.processor(text=list(texts), images=list(images), return_tensors="pt", padding=True).to(
            self.model.device
        )
        logits = self.model(**inputs).logits_per_image
        self._require_finite(logits)
        chosen: list[int] = logits.argmax(1).tolist()
        return chosen

    @torch.no_grad()
    def seen(self, images: Sequence[Image]) -> torch.Tensor:
        """What each image shows, `[n, d]` float32 of length 1: its place in the space that images share with texts."""
        inputs = self.processor(images=list(images), return_tensors="pt").to(self.model.device)
        pooled = self.model.vision_model(**inputs).pooler_output
        features = torch.nn.functional.normalize(self.model.visual_projection(pooled).float(), dim=1).cpu()
        self._require_finite(features)
        return features

    @torch.no_grad()
    def described(self, images: Sequence[Image], texts: Sequence[str]) -> tuple[list[float], torch.Tensor]:
        """How well each image fits its own text, and what the image tower sees in it.

        Returns:
            CLIP Score (Hessel et al. 2021) of each pair, 100 · max(cos, 0), and features `[n, d]` float32.
        """
        inputs = self.processor(text=list(texts), images=list(images), return_tensors="pt", padding=True)
        output = self.model(**inputs.to(self.model.device))
        scores = 100 * (output.image_embeds * output.text_embeds).sum(1).clamp(min=0)
        features = output.vision_model_output.pooler_output.float().cpu()
        self._require_finite(scores, features)
        return scores.tolist(), features

    def _require_finite(self, *answers: torch.Tensor) -> None:
        """Refuse NaN: of NaN the first text would be the answer."""
        if not all(map(finite, answers)):
            raise CheckpointError(
                f"the judge {self.model.name_or_path} answers with NaN or infinite values; its weights or its "
                "preprocessor are damaged, use another copy."
            )

    def seeing(self, images: Mapping[str, Sequence[Image]]) -> Callable[[str], torch.Tensor]:
        """`seen` on pictures by prompt, each looked at once."""
        features: dict[str, torch.Tensor] = {}

        def seen(prompt: str) -> torch.Tensor:
            if prompt not in features:
                features[prompt] = self.seen(images[prompt])
            return features[prompt]

        return seen

    def asked(self, images: Mapping[str, Sequence[Image]]) -> Callable[[str, tuple[str, str]], list[int]]:
        """`choose` on pictures by prompt."""
        return lambda prompt, texts: self.choose(images[prompt], texts)


def load_judge(folder: Path, device: torch.device) -> Judge:
    """Read a `CLIPModel` folder with safetensors weights and its processor.

    Raises:
        CheckpointError: it is not one, cannot judge, or holds NaN or infinity.
    """
    require_judge(folder)
    logging.disable_progress_bar()
    weights = [open_file(file) for file in sorted(folder.glob("*.safetensors"))]
    for name in ("config.json", "preprocessor_config.json"):
        require_plausible(folder / name, weights)
    require_text(folder)
    with explained(f"{folder} cannot be loaded as a CLIP model"):
        config = CLIPConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        require_no_larger(folder / "config.json", weights, partial(CLIPModel, config))
        model, loaded = CLIPModel.from_pretrained(
            folder, local_files_only=True, use_safetensors=True, dtype=torch.float32, output_loading_info=True,
            trust_remote_code=False, ignore_mismatched_sizes=True,
        )  # fmt: skip
        processor = CLIPProcessor.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    for name, held, wanted in sorted(loaded["mismatched_keys"]):
        raise CheckpointError(
            f"{folder}: {name} has the shape {list(held)}, and by config.json {list(wanted)}; use the config that "
            "belongs to these weights."
        )
    if lost := sorted(loaded["missing_keys"]):
        raise CheckpointError(
            f"{folder} is not a complete CLIP model ({lost[0]} is missing); --judge takes a CLIPModel folder."
        )
    if left_out := sorted(key for key in loaded["unexpected_keys"] if ".layers." in key):
        raise CheckpointError(f"{folder} has a config without {left_out[0]}, which its weights have; copy it again.")
    for name, tensor in model.state_dict().items():
        require_finite(tensor, f"{folder}: {name}")
    judge = Judge(model.to(device).eval(), processor)
    with explained(f"{folder} is a CLIP model that cannot judge a picture"):
        judge.choose([new_image("RGB", (8, 8))], ["a", "b"])
    return judge
