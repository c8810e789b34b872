"""Reproduce published accuracy: COCO val AP of published weights, and fine-tuning on RF100-VL.

    python benchmarks/reproduce.py coco COCO_FOLDER --out results/ --device cuda
    python benchmarks/reproduce.py rf100vl RF100VL_FOLDER --out results/ --device cuda

Needs a network for the weights and, in practice, a GPU. `--download` fetches COCO's validation
images and annotations (1 GB) into COCO_FOLDER first. RF100-VL is a folder of one folder for each
data set, as `pip install rf100vl` downloads it with a key of its hosts; each is fine-tuned by the
recipe of the model and measured on its test split. What is measured already is not measured again,
so the same command continues. Prints the commands alone with `--dry-run`.

The published figures are their authors', rounded as they print them: DETR (arXiv 2005.12872),
Conditional DETR (2108.06152) and Deformable DETR (2010.04159; those of the READMEs of their codes),
D-FINE (2410.13842), RT-DETR (2304.08069), RT-DETRv2 (2407.17140), DEIMv2 (2509.20787),
LW-DETR (2406.03459; those of the README of its code), RF-DETR (2511.09554; that of rfdetr_b is
from the README of its first release). Weights of LW-DETR load with `--accept-license objects365`
alone. Models with masks are not compared: their published AP is that of masks.
"""

import argparse
import json
import statistics
import sys
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from setmatch.cli import main as setmatch
from setmatch.models.weights.downloads.resumable_download import download

COCO_FILES = {
    "val2017": "http://images.cocodataset.org/zips/val2017.zip",
    "annotations": "http://images.cocodataset.org/annotations/annotations_trainval2017.zip",
}
PUBLISHED_AP = {
    "detr_r50": 42.0,
    "detr_r50_dc5": 43.3,
    "detr_r101": 43.5,
    "detr_r101_dc5": 44.9,
    "conditional_detr_r50": 41.0,
    "deformable_detr_r50": 44.5,
    "deformable_detr_r50_refine": 46.2,
    "deformable_detr_r50_two_stage": 46.9,
    "deformable_detr_r50_single_scale": 39.4,
    "deformable_detr_r50_single_scale_dc5": 41.5,
    "dfine_n": 42.8,
    "dfine_s": 48.5,
    "dfine_m": 52.3,
    "dfine_l": 54.0,
    "dfine_x": 55.8,
    "rtdetr_r18": 46.5,
    "rtdetr_r34": 48.9,
    "rtdetr_r50": 53.1,
    "rtdetr_r101": 54.3,
    "rtdetr_v2_r18": 48.1,
    "rtdetr_v2_r34": 49.9,
    "rtdetr_v2_r50": 53.4,
    "rtdetr_v2_r101": 54.3,
    "deimv2_atto": 23.8,
    "deimv2_femto": 31.0,
    "deimv2_pico": 38.5,
    "deimv2_n": 43.0,
    "lwdetr_t": 42.6,
    "lwdetr_s": 48.0,
    "lwdetr_m": 52.5,
    "lwdetr_l": 56.1,
    "lwdetr_x": 58.3,
    "rfdetr_n": 48.4,
    "rfdetr_s": 53.0,
    "rfdetr_m": 54.7,
    "rfdetr_l": 56.5,
    "rfdetr_b": 53.3,
}
RF100VL_MODELS = (  # recipes
    *("dfine_n", "dfine_s", "deim_dfine_n", "deim_dfine_s"),
    *("rtdetr_r18", "rtdetr_v2_r18", "rfdetr_n", "rfdetr_s"),
)
CLOSE = 0.15  # AP points: a published figure has one decimal, and resizing differs by a little


@dataclass(frozen=True)
class Job:
    """Commands that end with the file `result`, the metrics of one model on one data set."""

    model: str
    data: str
    commands: tuple[tuple[str, ...], ...]
    result: Path

    @property
    def ap(self) -> float | None:
        """AP in percent; None if it was not measured."""
        if not self.result.exists():
            return None
        value = json.loads(self.result.read_text())["AP"]
        return None if value is None else 100 * value


def coco_jobs(coco: Path, out: Path, models: Sequence[str], options: Sequence[str]) -> list[Job]:
    """Return the evaluation of each model on COCO's validation split."""
    jobs = []
    for model in models:
        result = out / f"coco_{Path(model).name}.json"
        command = ("evaluate", model, str(coco), "--split", "val", "--json", str(result))
        jobs.append(Job(model, "COCO val", ((*command, *options),), result))
    return jobs


def rf100vl_jobs(
    folder: Path, out: Path, models: Sequence[str], options: Sequence[str]
) -> list[Job]:
    """Return the fine-tuning of each recipe on each data set, and the evaluation of its test split.

    A run that was interrupted continues.
    """
    jobs = []
    for model in models:
        for data in sorted(each for each in folder.iterdir() if each.is_dir()):
            run, result = out / model / data.name, out / model / f"{data.name}.json"
            train = ("train", str(data), "--recipe", model, "--out", str(run), "--resume", *options)
            test = ("evaluate", str(run), str(data), "--split", "test", "--json", str(result))
            jobs.append(Job(model, data.name, (train, (*test, *options)), result))
    return jobs


def run(jobs: Sequence[Job], dry_run: bool = False) -> None:
    """Run the jobs without a result; one that fails is reported, and the next one runs."""
    for job in jobs:
        if job.result.exists():
            continue
        for command in job.commands:
            print("setmatch", *command, flush=True)
            if dry_run:
                continue
            if setmatch(command) != 0:
                print(f"{job.model} on {job.data}: failed; see above", file=sys.stderr)
                break


def coco_table(jobs: Sequence[Job]) -> str:
    """Return each model's AP beside the published one, and whether they are close."""
    lines = ["| model | AP | published | |", "|---|---|---|---|"]
    for job in jobs:
        published, ap = PUBLISHED_AP.get(job.model), job.ap
        measured = "-" if ap is None else f"{ap:.1f}"
        if ap is None or published is None:
            verdict = "not measured" if ap is None else ""
        else:
            verdict = "reproduced" if abs(ap - published) <= CLOSE else f"{ap - published:+.1f}"
        lines.append(f"| {job.model} | {measured} | {published or '-'} | {verdict} |")
    return "\n".join(lines)


def rf100vl_table(jobs: Sequence[Job]) -> str:
    """Return each recipe's mean AP over its data sets, with how many were measured."""
    lines = ["| recipe | mean AP | data sets |", "|---|---|---|"]
    for model in dict.fromkeys(job.model for job in jobs):
        own = [job for job in jobs if job.model == model]
        measured = [job.ap for job in own if job.ap is not None]
        mean = f"{statistics.fmean(measured):.1f}" if measured else "-"
        lines.append(f"| {model} | {mean} | {len(measured)} of {len(own)} |")
    return "\n".join(lines)


def download_coco(folder: Path) -> None:
    """Download and unpack COCO's validation images and annotations, unless they are there."""
    for name, url in COCO_FILES.items():
        if (folder / name).exists():
            continue
        archive = folder / url.rsplit("/", 1)[1]
        # The hosts publish no hash. A damaged archive fails its own checksums while unpacking.
        download(url, archive, "")
        with zipfile.ZipFile(archive) as packed:
            packed.extractall(folder)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=["coco", "rf100vl"])
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--models", nargs="+")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--accept-license", help="terms of weights that are not free for every use")
    parser.add_argument("--download", action="store_true", help="COCO only")
    parser.add_argument("--dry-run", action="store_true")
    options = parser.parse_args(arguments)
    more = ["--device", options.device]
    if options.accept_license:
        more += ["--accept-license", options.accept_license]
    if options.what == "coco":
        if options.download and not options.dry_run:
            download_coco(options.data)
        models = options.models or list(PUBLISHED_AP)
        jobs = coco_jobs(options.data, options.out, models, more)
    else:
        models = options.models or list(RF100VL_MODELS)
        jobs = rf100vl_jobs(options.data, options.out, models, more)
    run(jobs, options.dry_run)
    print(coco_table(jobs) if options.what == "coco" else rf100vl_table(jobs))


if __name__ == "__main__":
    main()
