"""What an edit costs, each time beside a limit or a rival measured in the same run.

    python benchmarks/run.py                        # full size: writes 6.4 GB to a temporary folder, needs 16 GB there
    python benchmarks/run.py --only solve accuracy  # some of the tables
    python benchmarks/run.py --json results.json    # the numbers, too

Tables: `start` (from the command to the first answer), `edit` (a whole edit against `cp` and flush of the same file),
`everyday` (the everyday list of a text encoder that is new, against encoding it), `plan` (a preview, once the model is
open), `solve` (all matrices against the algorithm as the paper states it), `pairs` (joint edits of many pairs),
`accuracy` (against a float64 oracle), `peers` (diffusers' load and save around the paper's formula, and UCE's), `flux`
(a delta applied to a FLUX.1 network of full size, against `cp --sparse=never` of the same file; needs 50 GB, so ask for
it), `encoders` (memory for FLUX.1's text encoders of full size, against the largest of them; reads 10 GB, so ask for
it), `lora` (the default LoRA of two pairs for SDXL in full size, and how far their sources go with it against the whole
edit; needs 3 GB, so ask for it).
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import full_size
import full_size_flux
import torch
from full_size import CONFIGS

from timecli.editing import compiling, forecast, preview
from timecli.editing.delta import Delta, Origin, load_delta, save_delta
from timecli.editing.solve import Operator, apply, solve
from timecli.files.tensors import DTYPES
from timecli.manifests import manifest
from timecli.models.checkpoint import open_checkpoint
from timecli.shipping import export
from timecli.text import encoding, everyday, worlds
from timecli.text.pairing import columns

EDIT = Path(__file__).parent.parent / "edits" / "sd-1.4" / "blue-roses.toml"
MANIFEST = 'name = "blue"\n[[edit]]\nsource = "A pack of roses"\ndestination = "A pack of blue roses"\n'
TWO = f'{MANIFEST}[[edit]]\nsource = "A dog"\ndestination = "A green dog"\n'
NOUNS = ("rose", "dog", "car", "house", "hat", "pizza", "cat", "boat", "clock", "apple")
COLOURS = ("blue", "red", "green", "pink", "white", "black", "orange", "purple", "brown", "gray")
Row = dict[str, Any]


def child(*command: object, code: int = 0) -> tuple[float, float, str]:
    """Seconds, peak resident memory in GB and output of a command; nothing else waits for the disk meanwhile.

    Linux counts this process's own peak as the child's, so this process must stay small until it has measured.
    """
    os.sync()
    started = time.perf_counter()
    process = subprocess.Popen(list(map(str, command)), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert process.stdout is not None
    output = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != code:
        raise SystemExit(f"{' '.join(map(str, command))} ended with {process.returncode}")
    return time.perf_counter() - started, usage.ru_maxrss / 1e6, output


def copied(model: Path, target: Path, *options: str) -> float:
    """Seconds of `cp` and of flushing the copy to the disk."""
    os.sync()
    started = time.perf_counter()
    subprocess.run(["cp", *options, model, target], check=True)
    with target.open("rb") as file:
        os.fsync(file.fileno())
    seconds = time.perf_counter() - started
    target.unlink()
    return seconds


def warm(model: Path) -> None:
    """Read a file once, so that both copies find it in memory, as far as it fits."""
    with model.open("rb", buffering=0) as file:
        while file.read(2**24):
            pass


def edit_table(folder: Path, models: dict[str, Path], repeats: int) -> list[Row]:
    """A whole `timecli edit`, one that writes the delta only, and `cp`, by turns; the fastest of each counts."""
    rows = []
    (folder / "m.toml").write_text(MANIFEST)
    for name, model in models.items():
        warm(model)
        copies: list[float] = []
        runs: dict[str, list[Row]] = {"edit": [], "delta": []}
        for _ in range(repeats):
            copies.append(copied(model, folder / "copy"))
            runs["edit"].append(edit_run(folder, model, "-o", folder / "out"))
            runs["delta"].append(edit_run(folder, model, "--delta", folder / "out.delta"))
        cp = min(copies)
        for what, found in runs.items():
            row = min(found, key=lambda row: row["work s"])
            limit = row["text encoder s"] + row["compile s"] + (cp if what == "edit" else 0)
            rows.append({"file": name, "what": what, **row, "cp s": cp, "ratio": row["work s"] / limit})
    return rows


def edit_run(folder: Path, model: Path, option: str, out: Path) -> Row:
    """One `timecli edit`: Python's start, the text encoder's part, and all but the start."""
    total, peak, output = child(
        sys.executable, "-m", "timecli", "edit", folder / "m.toml", model, option, out, "--json"
    )
    out.unlink()
    stages = json.loads(output)["seconds"]
    start = total - sum(stages.values()) + stages["start"]
    parts = {f"{name} s": stages.get(name, 0.0) for name in ("text encoder", "everyday", "compile", "apply", "write")}
    return {"peak GB": peak, "start s": start, "work s": total - start, **parts}


def paper(
    weights: list[torch.Tensor], source: torch.Tensor, destination: torch.Tensor, lam: float
) -> list[torch.Tensor]:
    """Eq. 5 as the paper states it: per matrix, sums of outer products over all tokens and an explicit inverse."""
    edited = []
    for weight in weights:
        left, right = lam * weight, lam * torch.eye(weight.shape[1], dtype=weight.dtype, device=weight.device)
        for c, c_star in zip(source, destination, strict=True):
            left = left + torch.outer(weight @ c_star, c)
            right = right + torch.outer(c, c)
        edited.append(left @ torch.linalg.inv(right))
    return edited


def paper_in_batches(
    weights: list[torch.Tensor], source: torch.Tensor, destination: torch.Tensor, lam: float
) -> list[torch.Tensor]:
    """The same, all outer products of a prompt at once and then their sum, as the authors' code goes about it."""
    edited = []
    for weight in weights:
        left, right = lam * weight, lam * torch.eye(weight.shape[1], dtype=weight.dtype, device=weight.device)
        for c, c_star in zip(source.split(77), destination.split(77), strict=True):
            left = left + ((c_star @ weight.T)[:, :, None] * c[:, None, :]).sum(0)
            right = right + (c[:, :, None] * c[:, None, :]).sum(0)
        edited.append(left @ torch.linalg.inv(right))
    return edited


def batched(
    weights: list[torch.Tensor], source: torch.Tensor, destination: torch.Tensor, lam: float
) -> list[torch.Tensor]:
    """The same sums as one product per matrix, still with one inverse per matrix, as UCE's code does it."""
    edited = []
    for weight in weights:
        left = lam * weight + (weight @ destination.T) @ source
        right = lam * torch.eye(weight.shape[1], dtype=weight.dtype, device=weight.device) + source.T @ source
        edited.append(left @ torch.linalg.inv(right))
    return edited


def ours(
    weights: list[torch.Tensor], source: torch.Tensor, destination: torch.Tensor, lam: float
) -> list[torch.Tensor]:
    """One operator for all matrices, solved in float64, applied in float32."""
    weight = torch.full((len(source),), 1 / lam, dtype=torch.float64, device=source.device)
    operator = solve([(source, destination, weight)])
    return [apply(matrix, operator) for matrix in weights]


def seconds(function: Callable[[], object], repeats: int = 3) -> float:
    """The fastest of some runs."""
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        function()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        times.append(time.perf_counter() - started)
    return min(times)


def problem(model: Path) -> tuple[list[torch.Tensor], torch.Tensor, torch.Tensor]:
    """The 32 matrices in float32, and the rows of one edit in float64."""
    checkpoint, cpu = open_checkpoint(model), torch.device("cpu")
    encoder = encoding.read_text_encoder(checkpoint, None, cpu)
    (rows,) = columns(manifest.parse(f"{MANIFEST}[preserve]\neveryday = false\n"), encoder, None)
    return [tensor.float() for _, tensor in checkpoint.projections()], rows.source, rows.destination


def solve_table(model: Path, device: torch.device) -> list[Row]:
    """All 32 matrices, against the paper's algorithm in float32 on the same tensors."""
    weights, source, destination = problem(model)
    weights = [weight.to(device) for weight in weights]
    wide = (source.to(device), destination.to(device))
    narrow = tuple(part.float() for part in wide)
    rows = []
    for name, function, arguments, repeats in (
        ("timecli", ours, wide, 3),
        ("one inverse per matrix, float32", batched, narrow, 3),
        ("as the paper states it, token by token, float32", paper, narrow, 1),
        ("as the paper states it, prompt by prompt, float32", paper_in_batches, narrow, 1),
    ):
        rows.append({"method": name, "s": seconds(lambda f=function, a=arguments: f(weights, *a, 0.1), repeats)})
    return [{**row, "times timecli's": row["s"] / rows[0]["s"], "device": device.type} for row in rows]


def least_squares(
    weights: list[torch.Tensor], source: torch.Tensor, destination: torch.Tensor, lam: float
) -> list[torch.Tensor]:
    """Eq. 4 per matrix as a least squares problem in float64: no inverse, no squared condition number."""
    eye = lam**0.5 * torch.eye(source.shape[1], dtype=torch.float64)
    left = torch.cat([source, eye])
    return [
        torch.linalg.lstsq(left, torch.cat([destination @ weight.T, lam**0.5 * weight.T])).solution.T
        for weight in weights
    ]


def accuracy_table(model: Path) -> list[Row]:
    """Largest relative error over the 32 matrices against Eq. 4 in float64, for λ from 1e6 to 1e-8."""
    weights, source, destination = problem(model)
    wide = [weight.double() for weight in weights]
    rows = []
    for exponent in range(6, -9, -2):
        lam = 10.0**exponent
        oracle = least_squares(wide, source, destination, lam)

        def error(found: list[torch.Tensor], oracle: list[torch.Tensor] = oracle) -> float:
            return max(float((a.double() - b).norm() / b.norm()) for a, b in zip(found, oracle, strict=True))

        rows.append(
            {
                "λ": f"1e{exponent}",
                "timecli": error(ours(weights, source, destination, lam)),
                "paper's formula in float32": error(batched(weights, source.float(), destination.float(), lam)),
            }
        )
    return rows


def start_table(folder: Path, model: Path, repeats: int) -> list[Row]:
    """From the command to the first answer, beside what Python and torch take; the fastest of some runs each."""
    (folder / "m.toml").write_text(MANIFEST)
    timecli = (sys.executable, "-m", "timecli")
    rows = []
    for what, command, code in (
        ("python", (sys.executable, "-c", ""), 0),
        ("import torch", (sys.executable, "-c", "import torch"), 0),
        ("timecli --help", (*timecli, "--help"), 0),
        ("a manifest that is missing", (*timecli, "edit", folder / "none.toml", model), 2),
        ("a model that is missing", (*timecli, "edit", folder / "m.toml", folder / "none"), 2),
        ("an output that exists", (*timecli, "edit", folder / "m.toml", model, "-o", model), 2),
        (
            "init, without a model",
            (*timecli, "init", "a rose", "a blue rose", "-o", folder / "init.toml", "--force"),
            0,
        ),
        ("edit, to the text encoder", None, 0),
    ):
        if command is None:
            found = [edit_run(folder, model, "--delta", folder / "d")["start s"] for _ in range(repeats)]
        else:
            found = [child(*command, code=code)[0] for _ in range(repeats)]
        rows.append({"what": what, "s": min(found)})
    return rows


def everyday_table(model: Path, device: torch.device) -> list[Row]:
    """The everyday list, encoded and reduced to what an edit needs of it, beside encoding it alone; nothing is warm."""
    edit = manifest.load(EDIT)
    encoder = encoding.read_text_encoder(open_checkpoint(model), None, device)
    world = everyday.prompts(edit, encoder)
    positions = encoder.enough(world, least=everyday.POSITIONS)
    first = seconds(lambda: everyday.measured(edit, encoder), repeats=1)
    alone = seconds(lambda: encoder.encode(world, positions), repeats=1)
    found = {"prompts": len(world), "positions": positions, "s": first, "encoding alone": alone, "ratio": first / alone}
    return [found]


def plan_table(model: Path, device: torch.device) -> list[Row]:
    """What `timecli plan` does once the model is open and the everyday list is at hand; how much of it is encoding."""
    edit, checkpoint = manifest.load(EDIT), open_checkpoint(model)
    encoder = encoding.read_text_encoder(checkpoint, None, device)
    world = worlds.kept(edit, encoder, worlds.cache())
    delta = compiling.compile_edit(edit, checkpoint, encoder, device, world)
    prompts = list(encoder.memory)

    def anew(function: Callable[[], object]) -> float:
        """Seconds of a function that reads the maps."""
        return seconds(lambda: (checkpoint.metrics.clear(), function()))

    rows = {
        "compile": anew(lambda: compiling.compile_edit(edit, checkpoint, encoder, device, world)),
        "of it encoding": seconds(lambda: encoder.encode(prompts)),
        "M of all matrices": anew(lambda: forecast.metric(checkpoint, delta.origin, encoder)),
    }

    def forecasts() -> None:
        encoder.fresh()
        preview.preview(edit, checkpoint, encoder, delta, world)

    rows["forecasts, M again"] = seconds(forecasts)
    return [{"what": what, "s": spent} for what, spent in rows.items()]


def pairs_table(folder: Path, model: Path, counts: list[int]) -> list[Row]:
    """Joint edits of many pairs, without augmentations: all of it against encoding their prompts, and memory."""
    rows = []
    for count in counts:
        pairs = [
            f'[[edit]]\nsource = "A {NOUNS[i % 10]} number {i}"\n'
            f'destination = "A {COLOURS[i // 10 % 10]} {NOUNS[i % 10]} number {i}"\n'
            for i in range(count)
        ]
        (folder / "many.toml").write_text('name = "many"\n[solve]\naugment = false\n' + "".join(pairs))
        _, peak, output = child(sys.executable, __file__, "--peer", "pairs", "--model", model, "--folder", folder)
        found = json.loads(output)
        ratio = found["compile s"] / found["encoding s"]
        rows.append(
            {"pairs": count, **found, "s per pair": found["compile s"] / count, "ratio": ratio, "peak GB": peak}
        )
    return rows


def pairs(model: Path, folder: Path) -> None:
    """Compile `many.toml` and print how long that takes, and how long of it the text encoder runs."""
    checkpoint = open_checkpoint(model)
    encoder = encoding.read_text_encoder(checkpoint, None, torch.device("cpu"))
    edit = manifest.load(folder / "many.toml")
    world = worlds.kept(edit, encoder, worlds.cache())
    encode, spent = type(encoder).encode, []

    def timed(*arguments: Any) -> Any:
        started = time.perf_counter()
        found = encode(*arguments)
        spent.append(time.perf_counter() - started)
        return found

    type(encoder).encode = timed  # type: ignore[method-assign]
    started = time.perf_counter()
    delta = compiling.compile_edit(edit, checkpoint, encoder, torch.device("cpu"), world)
    whole = time.perf_counter() - started
    ways = forecast.shares([(one.source, one.destination) for one in edit.edits[:100]], encoder, delta.operator,
                           forecast.metric(checkpoint, delta.origin, encoder))  # fmt: skip
    worst = max(abs(share - 1) for share in ways)
    print(json.dumps({"compile s": whole, "encoding s": sum(spent), "sources off by": worst}))


def peers_table(folder: Path, model: Path) -> list[Row]:
    """Load with diffusers, edit with each formula in float32, save; against timecli on the same file."""
    rows = []
    total, peak, _ = child(
        sys.executable, "-m", "timecli", "edit", folder / "m.toml", model, "-o", folder / "out", "--json"
    )
    (folder / "out").unlink()
    rows.append({"what": "timecli edit", "s": total, "peak GB": peak})
    for method in ("paper", "uce"):
        total, peak, _ = child(
            sys.executable, __file__, "--peer", method, "--model", model, "--folder", folder / "peer"
        )
        shutil.rmtree(folder / "peer")
        rows.append({"what": f"diffusers + {method}'s formula + save_pretrained", "s": total, "peak GB": peak})
    return [{**row, "times timecli's": row["s"] / rows[0]["s"]} for row in rows]


def peer(method: str, model: Path, folder: Path) -> None:
    """What a script does that has the whole pipeline in memory."""
    if method == "pairs":
        return pairs(model, folder)
    from diffusers import StableDiffusionPipeline

    from timecli.drawing import libraries
    from timecli.text.tokenizers import clip_tokenizer

    pipeline = StableDiffusionPipeline.from_single_file(
        str(model),
        config=str(CONFIGS),
        tokenizer=libraries.tokenizer(clip_tokenizer()),
        local_files_only=True,
        safety_checker=None,
    )
    prompts = ["A pack of roses", "A pack of blue roses"]
    with torch.no_grad():
        states = pipeline.encode_prompt(prompts, "cpu", 1, False)[0].float()
    rows = [*range(4), *(min(i + 1, 76) for i in range(4, 77))]
    source, destination = states[0], states[1][rows]
    names = [name for name, _ in pipeline.unet.named_parameters() if ".attn2.to_k." in name or ".attn2.to_v." in name]
    weights = [pipeline.unet.get_parameter(name).data.float() for name in names]
    if method == "uce":  # the last subject token only, λ 0.5
        edited = batched(weights, source[4:5], destination[4:5], 0.5)
    else:
        edited = batched(weights, source, destination, 0.1)
    for name, weight in zip(names, edited, strict=True):
        pipeline.unet.get_parameter(name).data.copy_(weight)
    pipeline.save_pretrained(folder)


def flux_table(folder: Path, repeats: int) -> list[Row]:
    """`timecli apply` of a delta of rank 30, and `cp` and flush of as many bytes, by turns; the fastest of each."""
    model, random = full_size_flux.network(folder / "flux.safetensors"), torch.Generator().manual_seed(1)
    if shutil.disk_usage(folder).free < 1.1 * model.stat().st_size:
        raise SystemExit(f"{folder} has no room for a copy of {model.stat().st_size / 1e9:.0f} GB")
    operators = {
        stream: Operator(torch.randn(d, 30, generator=random) * 1e-3, torch.randn(30, d, generator=random) * 1e-1, 1.0)
        for stream, d in (("text", 4096), ("pooled", 768))
    }
    save_delta(Delta(operators, Origin("flux", MANIFEST, "0", "", (0.1,), ("k", "v"), None, ())), folder / "d")
    copies, runs = [], []
    for _ in range(repeats):
        warm(model)
        copies.append(copied(model, folder / "copy", "--sparse=never"))
        os.sync()  # what was removed is given back to the disk before the next run begins
        runs.append(child(sys.executable, "-m", "timecli", "apply", folder / "d", model, "-o", folder / "out"))
        (folder / "out").unlink()
    total, peak, _ = min(runs)
    size = model.stat().st_size / 1e9
    model.unlink()
    return [{"GB": size, "apply s": total, "cp s": min(copies), "ratio": total / min(copies), "peak GB": peak}]


def encoders_table(folder: Path) -> list[Row]:
    """`timecli edit --delta` of one pair, with T5-XXL and CLIP ViT-L in files of their own, 77 positions each."""
    config, texts = full_size_flux.text_encoders(folder / "flux")
    model = full_size_flux.network(folder / "small.safetensors", blocks=1)
    (folder / "m.toml").write_text(f"{MANIFEST}[solve]\naugment = false\n[preserve]\neveryday = false\n")
    given = [word for path in texts for word in ("--text-encoder", path)]
    command = ["edit", folder / "m.toml", model, "--config", config, *given, "--delta", folder / "delta"]
    total, peak, _ = child(sys.executable, "-m", "timecli", *command)
    largest = max(path.stat().st_size for path in texts) / 1e9
    return [{"largest GB": largest, "edit s": total, "peak GB": peak, "peak - largest GB": peak - largest}]


def lora_table(folder: Path) -> list[Row]:
    """`timecli export` of two pairs, by default; a source's way is that of the text with the columns that are kept."""
    model, path = full_size.sdxl(folder / "sdxl"), folder / "delta"
    (folder / "m.toml").write_text(TWO)
    child(sys.executable, "-m", "timecli", "edit", folder / "m.toml", model, "--delta", path)
    made = child(sys.executable, "-m", "timecli", "export", path, model, "-o", folder / "lora.safetensors", "--json")
    said, delta, checkpoint = json.loads(made[2]), load_delta(path), open_checkpoint(model)
    small, lost = export.smaller(delta, said["rank"], None)
    encoder = encoding.read_text_encoder(checkpoint, None, torch.device("cpu"))
    metric = forecast.metric(checkpoint, delta.origin, encoder)
    pairs = [(one.source, one.destination) for one in manifest.parse(TWO).edits]
    ways = [forecast.shares(pairs, encoder, one.operator, metric) for one in (small, delta)]
    found = {"MB": said["bytes"] / 1e6, "columns": said["rank"], "of": delta.operator.rank, "lost": lost}
    return [{"source": pair[0], **found, "way": kept / whole} for pair, kept, whole in zip(pairs, *ways, strict=True)]


def show(title: str, rows: list[Row]) -> None:
    """A Markdown table."""
    print(f"\n### {title}\n\n| {' | '.join(rows[0])} |\n|{'---|' * len(rows[0])}")
    for row in rows:
        cells = (f"{value:.3g}" if isinstance(value, float) else str(value) for value in row.values())
        print(f"| {' | '.join(cells)} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    tables = ("start", "edit", "everyday", "plan", "solve", "pairs", "accuracy", "peers")
    asked = ("flux", "encoders", "lora")
    parser.add_argument("--only", nargs="+", choices=(*tables, *asked), default=tables)
    parser.add_argument("--dtypes", nargs="+", choices=DTYPES, default=["fp16", "fp32"])
    parser.add_argument("--pairs", nargs="+", type=int, default=[1, 10, 100, 1000])
    parser.add_argument("--repeats", type=int, default=3, help="of each whole edit and of cp")
    parser.add_argument("--work", type=Path, help="where to write [default: the system's temporary folder]")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--peer", help=argparse.SUPPRESS)
    parser.add_argument("--model", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.peer:
        return peer(args.peer, args.model, args.folder)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    machine = f"{platform.machine()}, {os.cpu_count()} cores, torch {torch.__version__}, {device.type}"
    if device.type == "cuda":
        machine += f" {torch.cuda.get_device_name()}"
    print(f"{machine}")
    results: dict[str, Any] = {"machine": machine}
    with tempfile.TemporaryDirectory(dir=args.work) as temporary:
        folder = Path(temporary)
        wanted = args.dtypes if {*args.only} - {*asked} else []
        models = {dtype: folder / f"sd14-{dtype}.safetensors" for dtype in wanted}
        for dtype, path in models.items():
            child(sys.executable, Path(__file__).parent / "full_size.py", path, "--dtype", dtype)
        (folder / "m.toml").write_text(MANIFEST)
        first = models.get(args.dtypes[0], folder)
        made: dict[str, Callable[[], list[Row]]] = {
            "start": lambda: start_table(folder, first, args.repeats),
            "edit": lambda: edit_table(folder, models, args.repeats),
            "everyday": lambda: everyday_table(first, device),
            "plan": lambda: plan_table(first, device),
            "solve": lambda: solve_table(first, device),
            "pairs": lambda: pairs_table(folder, first, args.pairs),
            "accuracy": lambda: accuracy_table(first),
            "peers": lambda: peers_table(folder, first),
            "flux": lambda: flux_table(folder, args.repeats),
            "encoders": lambda: encoders_table(folder),
            "lora": lambda: lora_table(folder),
        }
        for name in args.only:
            results[name] = made[name]()
            show(name, results[name])
    if args.json:
        args.json.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
