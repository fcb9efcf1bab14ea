"""The same batches on Ray: the model travels once, an edit as its delta, and a task that fails is done again."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import ray
import torch

from timecli.errors import TimecliError
from timecli.measuring.bench import pictures
from timecli.measuring.rivals import Change
from timecli.measuring.schedule import Batch
from timecli.measuring.studio import Studio

AHEAD = 2
"""Tasks that wait for each worker, so that none is idle."""
RETRIES = 5


@ray.remote(max_retries=RETRIES)  # type: ignore[untyped-decorator]
def _judged(studio: Studio, change: Change | None, batch: Batch, device: str, threads: int) -> list[str]:
    torch.set_num_threads(threads)  # another number would sum in another order
    studio.pipeline.to(device)
    studio.judge.model.to(device)
    return studio.judged(change, batch, lambda _: None)


def there(
    address: str,
    studio: Studio,
    work: Sequence[Batch],
    edits: Callable[[str], Change | None],
    tick: Callable[[float], None],
) -> Iterator[list[str]]:
    """Draw batches on a Ray cluster, one task each; results come in the order of the batches.

    Args:
        address: of the cluster, or "local" for one on this machine.
        studio: the model, put into the object store once.
        work: what to draw.
        edits: the edit of each model.
        tick: called with the number of pictures of every finished batch.
    """
    try:
        ray.init(address=address, log_to_driver=False)
    except (ConnectionError, ValueError, RuntimeError) as error:
        sentence = " ".join(str(error).split())
        raise TimecliError(f"--ray {address} cannot be reached: {sentence}") from error
    try:
        gpus = ray.cluster_resources().get("GPU", 0)
        device = "cuda" if gpus else "cpu"
        workers = int(gpus or ray.cluster_resources()["CPU"])
        task = _judged.options(num_gpus=1 if gpus else 0, num_cpus=0 if gpus else 1)
        shared = ray.put(studio)
        waiting: deque[tuple[Batch, Any]] = deque()

        def first() -> list[str]:
            batch, result = waiting.popleft()
            try:
                lines: list[str] = ray.get(result)
            except ray.exceptions.RayTaskError as error:
                raise error.cause from None  # what went wrong there, without the way here
            tick(pictures([batch], len(studio.settings.seeds)))
            return lines

        for batch in work:
            waiting.append((batch, task.remote(shared, edits(batch.model), batch, device, torch.get_num_threads())))
            if len(waiting) >= AHEAD * workers:
                yield first()
        while waiting:
            yield first()
    finally:
        ray.shutdown()
