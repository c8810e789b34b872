"""Training steps of the demo, of two trees of the sources in turns: milliseconds and their ratio.

    python benchmarks/demo_step.py DATA BEFORE/src AFTER/src --threads 2 --rounds 8

DATA is the folder data/ of a demo. A step reads a batch of 16 images and trains on them, in
float32. Images have been read once before, as they have after the first epoch.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from contextlib import suppress
from itertools import islice
from pathlib import Path

STEPS = 4  # in a row, of each tree


def serve(data: Path, threads: int) -> None:
    """Take STEPS steps for each line of the input, whose word is the scale of the images."""
    import torch

    from setmatch.demo.demo import SETTINGS
    from setmatch.distributed import init_distributed
    from setmatch.losses.normalizer import LossNormalizer
    from setmatch.training.optim.optimizer import set_learning_rates
    from setmatch.training.schedule.length import with_length
    from setmatch.training.schedule.schedule import make_schedule
    from setmatch.training.start.resolve_recipe import choose_recipe
    from setmatch.training.start.setup import build_setup, build_train_step
    from setmatch.training.start.start_run import open_batches
    from setmatch.training.start.training_data import open_training_data

    with suppress(ImportError):  # an older tree
        from setmatch.training.machine.freed_memory import keep_freed_memory

        keep_freed_memory().__enter__()
    torch.set_num_threads(threads)
    recipe = choose_recipe("setmatch_n", None, None, (*SETTINGS, "train.precision=float32"), None)
    splits = open_training_data(data, "coco", None, things_only=False, require_segments=False)
    setup = build_setup(splits, with_length(recipe, None, 3), "none", None, False)
    with init_distributed("cpu") as distributed:
        train_step = build_train_step(setup, distributed)
        schedule = make_schedule(len(splits.training), setup.recipe.train, 0)
        opened = open_batches(setup, schedule, distributed, 0)
        for image in range(len(splits.training)):
            opened._samples._sample((0, image), [])
        batches = iter(opened)

        def step(number: int, scale: float) -> float:
            start_s = time.perf_counter()
            window = list(islice(batches, 1))
            targets = [target for minibatch in window for target in minibatch.targets]
            normalizer = LossNormalizer.of(targets, train_step.detector.num_queries)
            set_learning_rates(train_step.optimizer, min(1.0, (number + 1) / 20))
            train_step.step(window, normalizer, [schedule.seed(number, 0)], scale)
            return time.perf_counter() - start_s

        number = 0
        step(number, 1.0)
        print("ready", flush=True)
        for line in sys.stdin:
            taken = []
            for _ in range(STEPS):
                number += 1
                taken.append(step(number, float(line)))
            print(json.dumps(taken), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("trees", type=Path, nargs="*")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--serve", action="store_true")
    options = parser.parse_args()
    if options.serve:
        serve(options.data, options.threads)
        return
    command = [sys.executable, __file__, str(options.data), "--serve"]
    command += ["--threads", str(options.threads)]
    servers = [
        subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(tree)},
        )
        for tree in options.trees
    ]
    for server, tree in zip(servers, options.trees, strict=True):
        assert server.stdout is not None
        if not any("ready" in line for line in server.stdout):
            parser.exit(1, f"{tree}: cannot take these steps\n")
    for scale in (0.8, 1.0):  # 128 and 160 pixels: half of the demo each
        times: list[list[float]] = [[] for _ in servers]
        for number in range(options.rounds):
            pairs = list(zip(servers, times, strict=True))
            for server, taken in pairs if number % 2 else pairs[::-1]:
                assert server.stdin is not None
                assert server.stdout is not None
                server.stdin.write(f"{scale}\n")
                server.stdin.flush()
                taken += json.loads(server.stdout.readline())
        medians = [statistics.median(taken) for taken in times]
        fastest = [statistics.quantiles(taken, n=5)[0] for taken in times]
        for name, values in (("median", medians), ("fastest fifth below", fastest)):
            listed = ", ".join(f"{1e3 * value:.0f} ms" for value in values)
            print(f"{160 * scale:.0f} px, {name}: {listed}; ratio {values[0] / values[-1]:.3f}")
    for server in servers:
        assert server.stdin is not None
        server.stdin.close()
        server.wait()


if __name__ == "__main__":
    main()
