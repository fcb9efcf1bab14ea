"""Small random models of the real classes: the topology, names and pipelines are the families' own."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers
from safetensors.torch import load_file
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from timecli.models import layouts, streams

WORDS = ["a", "an", "pack", "of", "roses", "rose", "blue", "tall", "photo", "painting", "dog", "in", "the", "snow"]


def tokenizer(start: str | None = None, end: str = "</s>", side: str = "right", **options: Any) -> Any:
    """One token for each word, in lower case, with an end token and perhaps a start token."""
    names = ["<pad>", "<unk>", end, *([start] if start else [])]
    more = options.pop("more", [])
    engine = Tokenizer(models.WordLevel({word: i for i, word in enumerate([*names, *more, *WORDS])}, "<unk>"))
    engine.normalizer = normalizers.Lowercase()
    engine.pre_tokenizer = pre_tokenizers.Split(Regex(r"\n|\w+|[^\w\s]+"), behavior="removed", invert=True)
    template = f"{start} $A {end}" if start else f"$A {end}"
    special = [(name, engine.token_to_id(name)) for name in (start, end) if name]
    if options.pop("ends", True):
        engine.post_processor = processors.TemplateProcessing(single=template, special_tokens=special)
    return PreTrainedTokenizerFast(
        tokenizer_object=engine, pad_token="<pad>", unk_token="<unk>", eos_token=end, bos_token=start,
        padding_side=side, model_max_length=512, additional_special_tokens=more, **options,
    )  # fmt: skip


def sized(model: torch.nn.Module, scale: float = 0.2) -> Any:
    """Initial weights are so small that a wrong state would go unnoticed; these are not."""
    random = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.copy_(torch.randn(parameter.shape, generator=random) * scale)
    return model.eval()


def clip(width: int, projected: bool, length: int = 77, heads: int = 2) -> tuple[Any, Any]:
    words = tokenizer("<|startoftext|>", "<|endoftext|>")
    words.model_max_length = length
    config = transformers.CLIPTextConfig(
        vocab_size=len(words), hidden_size=width, intermediate_size=32, num_hidden_layers=3,
        num_attention_heads=heads, projection_dim=width, max_position_embeddings=length, bos_token_id=3, eos_token_id=2,
        pad_token_id=0,
    )  # fmt: skip
    kind = transformers.CLIPTextModelWithProjection if projected else transformers.CLIPTextModel
    return sized(kind(config)), words


def t5(width: int) -> tuple[Any, Any]:
    words = tokenizer()
    config = transformers.T5Config(
        vocab_size=len(words), d_model=width, d_kv=8, d_ff=32, num_layers=2, num_heads=2, feed_forward_proj="gated-gelu"
    )
    return sized(transformers.T5EncoderModel(config)), words


def vae(channels: int = 4) -> Any:
    return diffusers.AutoencoderKL(
        block_out_channels=(8, 8), norm_num_groups=4, latent_channels=channels, sample_size=32, shift_factor=0.1,
        down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
    )  # fmt: skip


def scheduler() -> Any:
    return diffusers.FlowMatchEulerDiscreteScheduler()


def flux(vector: int = 12, heads: int = 2) -> Any:
    torch.manual_seed(0)
    network = diffusers.FluxTransformer2DModel(
        in_channels=16, num_layers=1, num_single_layers=1, attention_head_dim=8, num_attention_heads=2,
        joint_attention_dim=16, pooled_projection_dim=vector, axes_dims_rope=(2, 2, 4),
    )  # fmt: skip
    (one, words), (two, others) = clip(vector, False, heads=heads), t5(16)
    return diffusers.FluxPipeline(
        scheduler=scheduler(), vae=vae(), transformer=sized(network), text_encoder=one, tokenizer=words,
        text_encoder_2=two, tokenizer_2=others,
    )  # fmt: skip


def sd3() -> Any:
    torch.manual_seed(0)
    network = diffusers.SD3Transformer2DModel(
        sample_size=16, patch_size=2, in_channels=4, out_channels=4, num_layers=2, attention_head_dim=8,
        num_attention_heads=2, caption_projection_dim=16, joint_attention_dim=32, pooled_projection_dim=20,
        pos_embed_max_size=16,
    )  # fmt: skip
    (one, words), (two, others), (three, last) = clip(8, True), clip(12, True), t5(32)
    return diffusers.StableDiffusion3Pipeline(
        scheduler=scheduler(), vae=vae(), transformer=sized(network), text_encoder=one, tokenizer=words,
        text_encoder_2=two, tokenizer_2=others, text_encoder_3=three, tokenizer_3=last,
    )  # fmt: skip


def chroma() -> Any:
    torch.manual_seed(0)
    network = diffusers.ChromaTransformer2DModel(
        in_channels=16, num_layers=1, num_single_layers=1, attention_head_dim=16, num_attention_heads=2,
        joint_attention_dim=16, axes_dims_rope=(4, 4, 8), approximator_hidden_dim=32, approximator_layers=1,
        approximator_num_channels=64,
    )  # fmt: skip
    one, words = t5(16)
    return diffusers.ChromaPipeline(
        scheduler=scheduler(), vae=vae(), transformer=sized(network), text_encoder=one, tokenizer=words
    )


CHAT = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{% if message.content is string %}"
    "{{ message.content }}{% else %}{% for part in message.content %}{{ part.text }}{% endfor %}{% endif %}"
    "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def chatting(side: str = "right") -> Any:
    return tokenizer(
        None, "<|endoftext|>", side, ends=False, more=["<|im_start|>", "<|im_end|>", "\n"], chat_template=CHAT
    )


def qwen3(kind: str, width: int, layers: int, words: Any, head: int = 8) -> Any:
    config = transformers.Qwen3Config(
        vocab_size=len(words), hidden_size=width, intermediate_size=32, num_hidden_layers=layers,
        num_attention_heads=2, num_key_value_heads=1, head_dim=head, rms_norm_eps=1e-6,
        rope_parameters={"rope_type": "default", "rope_theta": 1e6},
    )  # fmt: skip
    return sized(getattr(transformers, kind)(config))


def flux2_network(width: int) -> Any:
    return sized(
        diffusers.Flux2Transformer2DModel(
            in_channels=16, num_layers=2, num_single_layers=2, attention_head_dim=16, num_attention_heads=2,
            joint_attention_dim=width, timestep_guidance_channels=16, axes_dims_rope=(4, 4, 4, 4),
        )
    )  # fmt: skip


def flux2_vae() -> Any:
    return diffusers.AutoencoderKLFlux2(
        block_out_channels=(8, 8), norm_num_groups=4, latent_channels=4, sample_size=32,
        down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
    )  # fmt: skip


def klein() -> Any:
    torch.manual_seed(0)
    words = chatting()
    return diffusers.Flux2KleinPipeline(
        scheduler=scheduler(), vae=flux2_vae(), transformer=flux2_network(48), tokenizer=words,
        text_encoder=qwen3("Qwen3ForCausalLM", 16, 28, words),
    )  # fmt: skip


def flux2() -> Any:
    torch.manual_seed(0)
    words = chatting("left")
    text = transformers.MistralConfig(
        vocab_size=len(words), hidden_size=16, intermediate_size=32, num_hidden_layers=31, num_attention_heads=2,
        num_key_value_heads=1, head_dim=8,
    )  # fmt: skip
    eyes = transformers.PixtralVisionConfig(
        hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=1, image_size=16, patch_size=8
    )
    config = transformers.Mistral3Config(text_config=text, vision_config=eyes, image_token_index=1)
    # Looks hard at few tokens: else one word among the many of its template would hardly be seen.
    reader = sized(transformers.Mistral3ForConditionalGeneration(config), 1.0)
    return diffusers.Flux2Pipeline(
        scheduler=scheduler(), vae=flux2_vae(), transformer=flux2_network(48), tokenizer=words, text_encoder=reader
    )


def qwen_image(width: int = 16, section: tuple[int, int, int] = (1, 1, 2)) -> Any:
    torch.manual_seed(0)
    words = chatting()
    config = transformers.Qwen2_5_VLConfig(
        text_config={
            "vocab_size": len(words), "hidden_size": width, "intermediate_size": 32, "num_hidden_layers": 2,
            "num_attention_heads": 2, "num_key_value_heads": 1, "rms_norm_eps": 1e-6,
            "rope_scaling": {"type": "mrope", "mrope_section": list(section), "rope_type": "default"},
        },
        vision_config={
            "depth": 1, "hidden_size": 16, "intermediate_size": 16, "num_heads": 2, "out_hidden_size": width,
            "fullatt_block_indexes": [0], "patch_size": 14, "window_size": 28,
        },
    )  # fmt: skip
    network = diffusers.QwenImageTransformer2DModel(
        in_channels=16, out_channels=4, num_layers=2, attention_head_dim=16, num_attention_heads=2,
        joint_attention_dim=width, axes_dims_rope=(8, 4, 4),
    )  # fmt: skip
    coder = diffusers.AutoencoderKLQwenImage(
        base_dim=8, z_dim=4, dim_mult=[1, 1, 1, 1], num_res_blocks=1, temperal_downsample=[False, True, True],
        latents_mean=[0.0] * 4, latents_std=[1.0] * 4,
    )  # fmt: skip
    with torch.no_grad():
        network.txt_norm.weight.copy_(torch.linspace(0.5, 2, width))
    return diffusers.QwenImagePipeline(
        scheduler=scheduler(), vae=coder, transformer=sized(network), tokenizer=words,
        text_encoder=sized(transformers.Qwen2_5_VLForConditionalGeneration(config)),
    )  # fmt: skip


def z_image(head: int = 8) -> Any:
    torch.manual_seed(0)
    words = chatting()
    network = diffusers.ZImageTransformer2DModel(
        in_channels=4, dim=32, n_layers=1, n_refiner_layers=1, n_heads=2, n_kv_heads=2, cap_feat_dim=16,
        axes_dims=[4, 4, 8], axes_lens=[64, 64, 64],
    )  # fmt: skip
    with torch.no_grad():
        network.cap_embedder[0].weight.copy_(torch.linspace(0.5, 2, 16))
    return diffusers.ZImagePipeline(
        scheduler=scheduler(), vae=vae(), transformer=sized(network), tokenizer=words,
        text_encoder=qwen3("Qwen3Model", 16, 3, words, head),
    )  # fmt: skip


FAMILIES = {
    "sd3": sd3, "flux": flux, "chroma": chroma, "flux2": flux2, "klein": klein, "qwen-image": qwen_image,
    "z-image": z_image,
}  # fmt: skip


def saved(family: str, folder: Path) -> Path:
    """A family's small model as a diffusers folder."""
    FAMILIES[family]().save_pretrained(folder)
    return folder


SINGLE = {
    # what is called otherwise in a single file
    "sd3": {"pos_embed.proj.": "x_embedder.proj."},
    "flux": {"x_embedder.": "img_in."},
    "chroma": {"x_embedder.": "img_in."},
    "flux2": {"_img.linear.": "_img.lin."},
    "klein": {"_img.linear.": "_img.lin."},
    "qwen-image": {},
    "z-image": {
        "all_x_embedder.2-1.": "x_embedder.", "all_final_layer.2-1.": "final_layer.", ".to_out.0.": ".out.",
        ".norm_k.": ".k_norm.", ".norm_q.": ".q_norm.",
    },
}  # fmt: skip
FUSED = {"sd3": "joint_blocks.0.context_block.attn.qkv", "flux": "double_blocks.0.img_attn.qkv"}


def single(family: str, folder: Path) -> dict[str, torch.Tensor]:
    """A small model's network as a single file has it: what tells the family, and what is edited, by those names."""
    state = load_file(folder / "transformer" / "diffusion_pytorch_model.safetensors")
    row = layouts.find({name: tuple(tensor.shape) for name, tensor in state.items()}, str(folder))[0]
    names = {matrix.names[streams.DIFFUSERS]: matrix.names[streams.LDM] for matrix in row.matrices}
    if family in FUSED:
        first = "transformer_blocks.0.attn." + ("add_{}_proj" if family == "sd3" else "to_{}") + ".weight"
        state[f"{FUSED[family]}.weight"] = torch.cat([state.pop(first.format(letter)) for letter in "qkv"])
    found = {}
    for name, tensor in state.items():
        for theirs, ours in SINGLE[family].items():
            name = name.replace(theirs, ours) if name not in names else name
        found[names.get(name, name)] = tensor
    return found


EYES = ("vision_tower.", "multi_modal_projector.", "visual.", "lm_head.")
"""Parts of a text encoder that text does not go through."""


def text_encoders(folder: Path) -> dict[str, dict[str, torch.Tensor]]:
    """The text encoders of a small model by their folders, under the names that user interfaces keep them."""
    found = {}
    for part in sorted(folder.glob("text_encoder*")):
        state = load_file(part / "model.safetensors")
        if any(name.startswith("embeddings.") for name in state):
            state = {f"text_model.{name}": tensor for name, tensor in state.items()}
        if "embed_tokens.weight" in state:
            state = {f"model.{name}": tensor for name, tensor in state.items()}
        inner = {name.removeprefix("language_model."): tensor for name, tensor in state.items()}
        found[part.name] = {name: tensor for name, tensor in inner.items() if not name.startswith(EYES)}
    return found


def config_only(folder: Path, target: Path) -> Path:
    """The configs and tokenizers of a model, and its autoencoder, without the weights of network and text encoders."""
    heavy = ("transformer", "text_encoder")
    shutil.copytree(
        folder, target, ignore=lambda at, names: [
            name for name in names if name.endswith(".safetensors") and Path(at).name.startswith(heavy)
        ],
    )  # fmt: skip
    return target
