"""`--comfyui`: a folder of ComfyUI has all that an edit needs, and text is read as ComfyUI reads it.

Small folders are laid out as ComfyUI's. What needs ComfyUI's own code runs beside a checkout of it, as in
`test_comfyui.py`.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from timecli.commands.comfyui import beside
from timecli.commands.groups import Reading
from timecli.editing.delta import load_delta
from timecli.models import configs, layouts
from timecli.models.checkpoint import open_checkpoint
from timecli.models.streams import POOLED, TEXT
from timecli.text.encoding import read_text_encoder

from . import small
from .conftest import Run, small_tensors
from .scaling import scaled
from .test_comfyui_model import FAMILIES, beside_comfyui
from .test_transformers import CPU

MANIFEST = """
name = "blue"
[solve]
augment = false
[[edit]]
source = "A pack of roses"
destination = "A pack of blue roses"
[preserve]
everyday = "few.txt"
"""
BUILT: dict[str, Callable[[], Any]] = {
    # small, with heads as wide as the released models'
    "flux": lambda: small.flux(64, 1),
    "chroma": small.chroma,
    "qwen-image": lambda: small.qwen_image(256, (16, 24, 24)),
    "z-image": lambda: small.z_image(128),
}
PLACES = {
    # where ComfyUI has a tokenizer
    "flux": {"tokenizer": "sd1_tokenizer", "tokenizer_2": "text_encoders/t5_tokenizer"},
    "chroma": {"tokenizer": "text_encoders/t5_tokenizer"},
    "qwen-image": {"tokenizer": "text_encoders/qwen25_tokenizer"},
    "z-image": {"tokenizer": "text_encoders/qwen25_tokenizer"},
}
TEXTS = Path("models", "text_encoders")


def made(family: str, folder: Path) -> tuple[Path, Path]:
    """A small model as a diffusers folder, and in a folder of ComfyUI, under names that say nothing."""
    pipeline, home = BUILT[family](), folder / "ComfyUI"
    pipeline.save_pretrained(folder / "diffusers")
    for name, place in PLACES[family].items():
        shutil.copytree(folder / "diffusers" / name, home / "comfy" / place)
    for place in ("checkpoints", "diffusion_models", "unet", "text_encoders/more", "clip"):
        (home / "models" / place).mkdir(parents=True)
    save_file(small.single(family, folder / "diffusers"), home / "models" / "diffusion_models" / "net.safetensors")
    for number, tensors in enumerate(small.text_encoders(folder / "diffusers").values()):
        if family == "qwen-image":  # what sees pictures is in the released file, too
            tensors |= {"visual.blocks.0.attn.qkv.weight": torch.zeros(96, 32)}
        save_file(tensors, home / TEXTS / "more" / f"{number}.safetensors")
    (folder / "few.txt").write_text("A dog\nA painting of the snow\n")
    (folder / "m.toml").write_text(MANIFEST)
    return folder / "diffusers", home


@pytest.fixture
def flux(tmp_path: Path) -> Path:
    return made("flux", tmp_path)[1]


def read(home: Path, name: str = "net.safetensors", comfyui: bool = True, **options: Any) -> Any:
    path, reading = beside(Path(name), Reading(comfyui=home, **options))
    checkpoint = open_checkpoint(path, reading.config, reading.text_encoder or ())
    return read_text_encoder(checkpoint, None, CPU, comfyui=comfyui)


@pytest.mark.parametrize("family", BUILT)
def test_a_folder_of_comfyui_is_all_that_an_edit_needs(family: str, run: Run, tmp_path: Path) -> None:
    """The edit is that of a diffusers folder with the same text encoders, where the length is ComfyUI's."""
    config, home = made(family, tmp_path)
    where = ("net.safetensors", "--comfyui", home, "-o", tmp_path / "edited.safetensors")
    done = run("edit", tmp_path / "m.toml", *where, "--delta", tmp_path / "d")
    assert done.code == 0 and (tmp_path / "edited.safetensors").exists(), done.err
    for text in (home / TEXTS / "more").iterdir():
        assert str(text) in done.err, "it is said which text encoders were taken"
    found, least = load_delta(tmp_path / "d"), family in ("flux", "chroma")
    assert found.origin.states_of == ("ComfyUI" if least else "")
    about = run("inspect", tmp_path / "d").out
    assert ("states_of: ComfyUI" in about) == ("states_of" in about) == least and "length" not in about
    texts = [part for path in sorted((home / TEXTS / "more").iterdir()) for part in ("--text-encoder", path)]
    net = home / "models" / "diffusion_models" / "net.safetensors"
    for length, same in ((["--length", 256], True), ([], False)) if family == "flux" else (([], family != "chroma"),):
        options = ["--config", config, *texts, *length, "--delta", tmp_path / "e", "--force"]
        done = run("edit", tmp_path / "m.toml", net, *options)
        assert done.code == 0, done.err
        other = load_delta(tmp_path / "e")
        assert other.origin.encoder == found.origin.encoder
        for stream, one in found.operators.items():
            two = other.operators[stream]
            equal = torch.equal(one.left, two.left) and torch.equal(one.right, two.right)
            assert equal == (same or stream == POOLED), stream
    done = run("plan", tmp_path / "m.toml", "net.safetensors", "--comfyui", home, "--no-cache")
    assert done.code == 0 and "100%" in done.out, done.err
    out = tmp_path / "lora.safetensors"
    assert run("export", tmp_path / "d", "net.safetensors", "--comfyui", home, "-o", out).code == 0
    assert run("apply", tmp_path / "d", "net.safetensors", "--comfyui", home, "-o", tmp_path / "o").code == 0


def test_text_is_filled_up_as_comfyui_fills_it(flux: Path, tmp_path: Path) -> None:
    """FLUX.1's at least to 256, a longer prompt has its own tokens; Chroma's is the prompt alone."""
    long = " ".join(["a dog in the snow"] * 60)
    one, other = read(flux), read(flux, comfyui=False)
    assert [len(states[TEXT]) for states in one.encode(["a dog", long])] == [256, 301]
    assert [len(states[TEXT]) for states in other.encode(["a dog", long])] == [512, 512]
    chroma = read(made("chroma", tmp_path / "chroma")[1])
    plain = read(tmp_path / "chroma" / "ComfyUI", comfyui=False)
    for prompt, count in (("a dog", 3), ("", 1), (long, 301)):
        (ours,), (theirs,) = chroma.encode([prompt]), plain.encode([prompt])
        assert len(ours[TEXT]) == count and len(theirs[TEXT]) == count + 1
        assert torch.allclose(ours[TEXT], theirs[TEXT][:count], atol=1e-4)


def test_everyday_prompts_and_deltas_of_one_program_are_not_taken_for_the_other_s(
    run: Run, flux: Path, tmp_path: Path
) -> None:
    model, where = ("net.safetensors", "--comfyui", flux), tmp_path / "e"
    done = run("everyday", *model, "-o", where, "--list", tmp_path / "few.txt")
    assert done.code == 0, done.err
    given = ("edit", tmp_path / "m.toml", *model, "--everyday", where, "--delta", tmp_path / "d")
    assert run(*given).code == 0
    net, config = flux / "models" / "diffusion_models" / "net.safetensors", tmp_path / "diffusers"
    texts = [part for path in (flux / TEXTS / "more").iterdir() for part in ("--text-encoder", path)]
    plain = (net, "--config", config, *texts)
    done = run("edit", tmp_path / "m.toml", *plain, "--everyday", where, "--delta", tmp_path / "x")
    assert done.code == 2 and "another program (--comfyui)" in done.err
    done = run("verify", tmp_path / "m.toml", *plain, tmp_path / "d", "--seeds", 1, "-o", tmp_path / "v")
    assert done.code == 2 and "give --comfyui for both or for neither" in done.err


def test_verify_draws_with_a_diffusers_folder_and_says_so_without(run: Run, flux: Path, tmp_path: Path) -> None:
    start = ("verify", tmp_path / "m.toml", "net.safetensors", "--comfyui", flux, "-o", tmp_path / "v", "--seeds", 1)
    done = run(*start)
    assert done.code == 2 and "is FLUX.1, which diffusers draws with the autoencoder" in done.err
    done = run(*start, "--config", tmp_path / "diffusers", "--steps", 1)
    assert "net.safetensors cannot be loaded for drawing" in done.err, "it is no whole network, and was tried"
    (flux / "models" / "diffusion_models" / "config").symlink_to(tmp_path / "diffusers")
    assert "net.safetensors cannot be loaded for drawing" in run(*start, "--steps", 1).err, "a config beside the file"
    done = run(*start[:2], tmp_path / "diffusers", *start[3:], "--steps", 1)
    assert done.code == 0, done.err
    (about,) = json.loads((tmp_path / "v" / "report.json").read_text())["edits"].values()
    assert about["states_of"] == "ComfyUI" and (tmp_path / "v" / "report.html").exists()
    chroma = made("chroma", tmp_path / "chroma")[1]
    done = run(*start[:4], chroma, "--config", tmp_path / "chroma" / "diffusers", "-o", tmp_path / "w")
    assert done.code == 2 and "Chroma, to which ComfyUI gives a prompt without the padding" in done.err


def stored(path: Path, kind: torch.dtype, more: dict[str, torch.Tensor] | None = None) -> dict[str, torch.Tensor]:
    return {name: tensor.to(kind) for name, tensor in load_file(path).items()} | (more or {})


def test_the_fullest_text_encoder_is_taken_and_others_are_named(flux: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = flux / TEXTS / "more" / "1.safetensors"  # T5, in float32
    home, t5 = flux / "models" / "clip", load_file(first)
    save_file(stored(first, torch.float8_e4m3fn), home / "a.safetensors")
    save_file(stored(first, torch.float16), home / "another_t5_fp16.safetensors")
    save_file(stored(first, torch.bfloat16), home / "t5_bf16.safetensors")
    name = "encoder.block.0.layer.0.SelfAttention.q"
    save_file(t5 | {f"{name}.scale_weight": torch.ones(1)}, home / "b.safetensors")
    save_file(scaled(t5)[0], home / "c.safetensors")  # which can be read, other than b
    # none of these can stand in T5's place
    second = "encoder.block.1.layer.0.SelfAttention.relative_attention_bias.weight"
    save_file(t5 | {second: torch.zeros(32, 2)}, home / "umt5.safetensors")
    save_file({name: torch.cat([t, t], -1) for name, t in t5.items() if t.ndim == 2}, home / "wide.safetensors")
    save_file({"x": torch.zeros(2)}, home / "x.safetensors")
    (home / "t5.safetensors").write_bytes(first.read_bytes()[:-9])
    (home / "t5.ckpt").write_bytes(b"\x80")
    (home / "loop").symlink_to(home, target_is_directory=True)
    read(flux)
    others = "not t5_bf16.safetensors or another_t5_fp16.safetensors or c.safetensors or a.safetensors or b.safetensors"
    assert f"T5-XXL is {first}, {others}\n" in capsys.readouterr().err
    first.unlink()
    read(flux)
    assert f"T5-XXL is {home / 't5_bf16.safetensors'}, not another" in capsys.readouterr().err
    save_file(stored(home / "t5_bf16.safetensors", torch.float16), flux / TEXTS / "more" / "t5_bf16.safetensors")
    read(flux)
    assert f"not {flux / TEXTS / 'more' / 't5_bf16.safetensors'} or" in capsys.readouterr().err, "of the same name"
    given = home / "another_t5_fp16.safetensors"
    read(flux, text_encoder=[given])
    assert "T5-XXL is" not in capsys.readouterr().err, "what is named is not looked for"


def test_what_is_missing_is_one_sentence(run: Run, flux: Path, tmp_path: Path) -> None:
    def said(*arguments: object) -> str:
        done = run("edit", tmp_path / "m.toml", *arguments, "--delta", tmp_path / "d")
        assert done.code == 2 and done.err.count("\n") == 1, done.err
        return done.err

    model = ("net.safetensors", "--comfyui", flux)
    words = flux / "comfy" / "text_encoders" / "t5_tokenizer"
    config = words / "tokenizer_config.json"
    kept = config.read_text()
    config.write_text(json.dumps(json.loads(kept) | {"auto_map": {"AutoTokenizer": ["x.Y", None]}}))
    done = run("edit", tmp_path / "m.toml", *model, "--delta", tmp_path / "d")
    assert done.code == 2 and "auto_map asks for code of its own" in done.err
    config.unlink()
    done = run("edit", tmp_path / "m.toml", *model, "--delta", tmp_path / "d")
    assert done.code == 2 and f"{config} does not exist, and T5-XXL needs" in done.err
    text = flux / TEXTS / "more" / "1.safetensors"
    text.write_bytes(text.read_bytes()[:-9])
    error = said(*model)
    assert "is FLUX.1, which reads T5-XXL (16 wide, 24 layers), and no file in text_encoders and clip of" in error
    assert f"({text}" in error and "huggingface.co/comfyanonymous/flux_text_encoders has it" in error
    (text.parent / "0.gguf").write_bytes(b"GGUF")
    assert f"({text}" in said(*model), "what is nearest to one that would do"
    text.unlink()
    assert "0.gguf is a GGUF file" in said(*model)
    error = said("gone.safetensors", "--comfyui", flux)
    assert "gone.safetensors does not exist, nor does" in error and "give its path, or its name with folder" in error
    for near in (tmp_path, flux / "models"):
        assert f"{near} has no folder models, and {flux} has it;" in said("net.safetensors", "--comfyui", near)
    assert "has no folder models; --comfyui takes" in said("net.safetensors", "--comfyui", tmp_path / "gone")
    shutil.copy(flux / "models" / "diffusion_models" / "net.safetensors", flux / "models" / "checkpoints")
    assert "is both" in said(*model)
    other = flux / "models" / "unet" / "klein.safetensors"
    save_file(small.single("klein", small.saved("klein", tmp_path / "klein")), other)
    error = said("klein.safetensors", "--comfyui", flux)
    assert "and how ComfyUI makes its text is not known here; give --config and --text-encoder" in error


def test_folders_that_comfyui_s_list_adds_are_looked_into(flux: Path, run: Run, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    shutil.move(flux / TEXTS / "more", tmp_path / "other" / "texts")
    shutil.move(flux / "models" / "diffusion_models" / "net.safetensors", tmp_path / "other" / "moved.safetensors")
    extra = flux / "extra_model_paths.yaml"
    texts, own = "    clip: |\n        nowhere\n        texts/\n", "    unet: .\n    is_default: true\n"
    extra.write_text(f"# a remark\nempty:\na111:\n    base_path: {tmp_path / 'other'}\n{texts}{own}")
    assert read(flux, "moved.safetensors").fingerprint
    extra.write_text(f"other_ui:\n    base_path: ../other\n{texts}{own}")
    assert read(flux, "moved.safetensors").fingerprint, "beside the list"
    for text in ("a: [", "- a\n", "a: b\n", "a:\n    unet: [1]\n"):
        extra.write_text(text)
        done = run("plan", tmp_path / "m.toml", "moved.safetensors", "--comfyui", flux)
        assert done.code == 2 and "is no list of folders as ComfyUI reads it" in done.err, text


def test_a_checkpoint_is_read_with_the_text_encoders_that_it_brings(
    flux: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    net = load_file(flux / "models" / "diffusion_models" / "net.safetensors")
    for number, name in enumerate(("clip_l", "t5xxl")):
        part = load_file(flux / TEXTS / "more" / f"{number}.safetensors")
        net |= {f"text_encoders.{name}.transformer.{key}": tensor + 0.1 for key, tensor in part.items()}
    save_file(net, flux / "models" / "checkpoints" / "whole.safetensors")
    one, other = read(flux, "whole.safetensors"), read(flux)
    assert capsys.readouterr().err.count(" is ") == 2, "of the other"
    assert one.fingerprint != other.fingerprint


def test_a_unet_alone_is_read_with_comfyui_s_clip(run: Run, tmp_path: Path) -> None:
    tensors, home = small_tensors(), tmp_path / "ComfyUI"
    prefix = layouts.SD1.towers[0].prefixes[0]
    text = {f"text_model.{name.removeprefix(prefix)}": t for name, t in tensors.items() if name.startswith(prefix)}
    net = {name.removeprefix("model.diffusion_model."): t for name, t in tensors.items() if "attn2" in name}
    for place, name, part in (("unet", "sd/net", net), ("clip", "any", text), ("checkpoints", "whole", tensors)):
        path = home / "models" / place / f"{name}.safetensors"
        path.parent.mkdir(parents=True)
        save_file(part, path)
    long = {name: t.repeat(4, 1) if "position_embedding" in name else t for name, t in text.items()}
    save_file(long, home / "models" / "clip" / "a.safetensors")
    (tmp_path / "few.txt").write_text("A dog\n")
    (tmp_path / "m.toml").write_text(MANIFEST)
    for name in ("sd/net", "whole"):
        options = ("--comfyui", home, "--delta", tmp_path / name[:2])
        done = run("edit", tmp_path / "m.toml", f"{name}.safetensors", *options)
        assert done.code == 0, done.err
        assert ("any.safetensors\n" in done.err) == (name == "sd/net")
    one, other = (load_delta(tmp_path / name) for name in ("sd", "wh"))
    assert torch.equal(one.operator.left, other.operator.left) and not one.origin.states_of, "the same states"


def clip(width: int, projection: torch.Tensor | None = None) -> dict[str, torch.Tensor]:
    state = small.clip(width, projection is not None, heads=width // 64)[0].state_dict()
    state = {f"text_model.{name.removeprefix('text_model.')}": t.half() for name, t in state.items()}
    state = {name: t for name, t in state.items() if "projection" not in name and "layers.2." not in name}
    state = {name: torch.cat([t, t[:1]]) if "token_embedding" in name else t for name, t in state.items()}  # "!"
    return state if projection is None else state | {"text_projection.weight": projection.half()}


def test_sd_3_is_read_as_comfyui_reads_it(tmp_path: Path) -> None:
    """Its vector has CLIP-L's state without a projection, OpenCLIP's text is filled up with token 0, T5 is optional."""
    home, texts = tmp_path / "ComfyUI", tmp_path / "ComfyUI" / TEXTS
    for place in ("diffusion_models", "text_encoders"):
        (home / "models" / place).mkdir(parents=True)
    random = torch.Generator().manual_seed(0)
    words = small.tokenizer("<|startoftext|>", "<|endoftext|>", more=["!"])
    words.model_max_length = 8192  # as ComfyUI's says
    words.save_pretrained(home / "comfy" / "sd1_tokenizer")
    net = {"context_embedder.weight": torch.zeros(8, 32), "y_embedder.mlp.0.weight": torch.zeros(8, 768 + 1280)}
    path = home / "models" / "diffusion_models" / "net.safetensors"
    save_file(net | {layouts.SD3.marks[0]: torch.zeros(4, 4)}, path)
    one, two = clip(768), clip(1280, torch.randn(1280, 1280, generator=random))
    save_file(one, texts / "l.safetensors")
    save_file(two, texts / "g.safetensors")
    found = read(home)
    plain = found.encode(["a rose"])[0][POOLED]
    save_file(one | {"text_projection.weight": torch.randn(768, 768, generator=random).half()}, texts / "l.safetensors")
    assert found.pipeline.tokenizer_2.pad_token == "!" and found.pipeline.tokenizer.pad_token == "<pad>"
    assert torch.equal(plain, read(home).encode(["a rose"])[0][POOLED])
    projected = read(home, comfyui=False).encode(["a rose"])[0][POOLED]
    assert not torch.equal(plain[:, :768], projected[:, :768]) and torch.equal(plain[:, 768:], projected[:, 768:])
    assert len(found.cautions) == 1 and "no T5-XXL" in found.cautions[0]
    model, words = small.t5(32)
    words.save_pretrained(home / "comfy" / "text_encoders" / "t5_tokenizer")
    t5 = {name: tensor for name, tensor in model.state_dict().items() if "embed_tokens" not in name}
    save_file(t5, texts / "t.safetensors")
    assert len(read(home).encode(["a rose"])[0][TEXT]) == 77 + 77
    whole = {f"model.diffusion_model.{name}": tensor for name, tensor in load_file(path).items()}
    for name, part in (("clip_l", one), ("clip_g", two)):
        whole |= {f"text_encoders.{name}.transformer.{key}": tensor for key, tensor in part.items()}
    save_file(whole, home / "models" / "diffusion_models" / "whole.safetensors")
    assert len(read(home, "whole.safetensors").encode(["a rose"])[0][TEXT]) == 77, "it brings the two CLIPs alone"


def layers(name: str, count: int, **shapes: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
    parts = {key.replace("__", "."): shape for key, shape in shapes.items()}
    return {f"{name}.{number}.{part}": shape for number in range(count) for part, shape in parts.items()}


def test_the_shapes_of_released_text_encoders_give_their_configs() -> None:
    """The numbers of google/t5-v1_1-xxl, laion/CLIP-ViT-bigG-14, Qwen2.5-VL-7B, Qwen3-4B and Mistral Small 3."""
    bias = {"encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight": (32, 64)}
    t5 = layers(
        "encoder.block", 24, layer__0__SelfAttention__q__weight=(4096, 4096),
        layer__1__DenseReluDense__wi_0__weight=(10240, 4096),
    )  # fmt: skip
    found = configs.of_tower(layouts.T5, {**t5, **bias, "shared.weight": (32128, 4096)})
    assert found and configs.width(found) == 4096
    assert {"d_ff": 10240, "d_kv": 64, "num_heads": 64, "num_layers": 24, "vocab_size": 32128}.items() <= found.items()
    clip = {f"text_model.{name}": s for name, s in layers("encoder.layers", 32, mlp__fc1__weight=(5120, 1280)).items()}
    tables = {"token_embedding": (49408, 1280), "position_embedding": (77, 1280)}
    clip |= {f"text_model.embeddings.{name}.weight": shape for name, shape in tables.items()}
    found = configs.of_tower(layouts.CLIP_G, {**clip, "text_projection.weight": (1280, 1280)})
    wanted = {"hidden_act": "gelu", "num_attention_heads": 20, "num_hidden_layers": 32, "projection_dim": 1280}
    assert found and wanted.items() <= found.items() and configs.width(found) == 1280
    qwen = layers("model.layers", 28, self_attn__k_proj__bias=(512,), mlp__gate_proj__weight=(18944, 3584))
    found = configs.of_tower(layouts.QWEN_VL, {**qwen, "model.embed_tokens.weight": (152064, 3584)})
    wanted = {"num_attention_heads": 28, "num_key_value_heads": 4, "num_hidden_layers": 28, "intermediate_size": 18944}
    assert found and wanted.items() <= found["text_config"].items() and configs.width(found) == 3584
    normed = layers("model.layers", 36, self_attn__q_norm__weight=(128,), **language(2560, 9728))
    found = configs.of_tower(layouts.QWEN3_4B, {**normed, "model.embed_tokens.weight": (151936, 2560)})
    wanted = {"num_attention_heads": 32, "num_key_value_heads": 8, "num_hidden_layers": 36, "intermediate_size": 9728}
    assert found and wanted.items() <= found.items() and configs.width(found) == 2560
    table = {"model.embed_tokens.weight": (131072, 5120)}
    mistral = {**layers("model.layers", 30, **language(5120, 32768)), **table}
    found = configs.of_tower(layouts.MISTRAL, mistral)
    wanted = {**wanted, "num_hidden_layers": 40, "intermediate_size": 32768}
    assert found and wanted.items() <= found["text_config"].items() and configs.width(found) == 5120
    assert configs.of_tower(layouts.MISTRAL, {**layers("model.layers", 29, **language(5120, 32768)), **table}) is None
    others = ((layouts.QWEN3_4B, mistral), (layouts.MISTRAL, {**normed, **table}), (layouts.MISTRAL, {**qwen, **table}))
    kinds = ((layouts.T5, clip), (layouts.CLIP, t5), (layouts.QWEN_VL, t5), (layouts.T5, qwen), *others)
    for tower, shapes in kinds:
        assert configs.of_tower(tower, shapes) is None, "another kind's"


def language(width: int, inner: int) -> dict[str, tuple[int, ...]]:
    """The shapes of a layer with 32 heads, and 8 of keys, 128 wide each."""
    attention = {"self_attn__q_proj__weight": (4096, width), "self_attn__k_proj__weight": (1024, width)}
    return {**attention, "mlp__gate_proj__weight": (inner, width)}


@pytest.mark.parametrize("family", FAMILIES)
def test_the_command_line_makes_comfyui_s_states_beside_its_folder(family: str, tmp_path: Path) -> None:
    found = beside_comfyui("comfyui_folder.py", family, tmp_path)
    own, theirs, plain = found["rows"]
    assert found["text"] < 1e-5 and found["pooled"] < 1e-5 and own == theirs
    assert found["fingerprint"], "the same as the node's, so that each takes the other's deltas"
    assert (found["states_of"] == "ComfyUI") == (own != plain), "recorded where it is another text than diffusers'"


@pytest.mark.parametrize("family", ["FLUX.1", "Qwen-Image"])
def test_the_command_line_makes_comfyui_s_states_of_fp8_with_factors(family: str, tmp_path: Path) -> None:
    found = beside_comfyui("comfyui_folder.py", family, "scaled", tmp_path)
    assert found["text"] < 1e-5 and found["pooled"] < 1e-5 and found["fingerprint"]
