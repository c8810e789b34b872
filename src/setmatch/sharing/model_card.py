"""The page of a model on the hub, README.md: metadata that the hub reads, and text for people."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from setmatch.html.tables import percent
from setmatch.models.weights.terms import KNOWN, UNKNOWN
from setmatch.sharing.facts import DataCounts, Metrics
from setmatch.sharing.license import license_metadata
from setmatch.structures.metadata import STARTED_FROM, TRAINED_ON, ModelCard, Preprocessing

_FEW_OBJECTS = 10  # with fewer, the score of a class says little
_LOW_SCORE = 0.3
_MOST_CLASSES = 200  # in the table; model.json has them all
_MOST_NAMED = 8  # in a sentence
_SPECIAL = re.compile(r"([\\`*_\[\]<>|~&#$])")  # of Markdown and of the HTML in it


@dataclass(frozen=True)
class SharedModel:
    """What the page is made from; `carried_license` is that of the weights it started from."""

    name: str  # owner/name
    card: ModelCard
    parameters: int
    has_masks: bool
    carried_license: str
    dataset: str | None = None  # of the hub, as the user names it
    metrics: Metrics | None = None
    data: DataCounts | None = None

    @property
    def data_name(self) -> str:
        """The name of the data set: the user's, or that of the folder it was trained on."""
        source = self.card.source
        if self.dataset is not None or not source.startswith(TRAINED_ON):
            return self.dataset or UNKNOWN
        return source.removeprefix(TRAINED_ON).partition(STARTED_FROM)[0]


def model_page(model: SharedModel) -> str:
    """Return the text of README.md."""
    head = yaml.safe_dump(metadata(model), sort_keys=False, allow_unicode=True)
    sections = (
        _introduction(model),
        _use(model),
        _results(model),
        _classes(model),
        _data(model),
        _preprocessing(model.card.preprocessing),
        _limits(model),
        _license(model),
    )
    return f"---\n{head}---\n\n" + "\n".join(sections)


def metadata(model: SharedModel) -> dict[str, Any]:
    """Return the entries that the hub reads: task, license, library, data and metrics."""
    task = "image-segmentation" if model.has_masks else "object-detection"
    entries: dict[str, Any] = {
        "library_name": "setmatch",
        "pipeline_tag": task,
        **license_metadata(model.card.license),
        "tags": ["setmatch", "object-detection", "detection-transformer"],
    }
    if model.dataset is not None:
        entries["datasets"] = [model.dataset]
    if model.metrics is not None and model.metrics.numbers():
        data = {"type": _slug(model.data_name), "name": model.data_name, "split": "val"}
        measured = [
            {"type": _slug(name), "name": name, "value": round(value, 4)}
            for name, value in model.metrics.numbers().items()
        ]
        result = {"task": {"type": task}, "dataset": data, "metrics": measured}
        entries["model-index"] = [{"name": model.name.partition("/")[2], "results": [result]}]
    return entries


def _introduction(model: SharedModel) -> str:
    categories = model.card.categories
    names = [categories.name(index) for index in range(len(categories))]
    return (
        f"# {model.name.partition('/')[2]}\n\n"
        f"A detection transformer, `{model.card.preset}` of setmatch with "
        f"{model.parameters / 1e6:.1f} million parameters. It finds objects of {len(names)} "
        f"classes in images{', with their masks' if model.has_masks else ''}: {_listed(names)}.\n"
    )


def _use(model: SharedModel) -> str:
    own = ":" in model.card.preset
    first = f"import {model.card.preset.partition(':')[0]}  # the model's own code\n" if own else ""
    threshold = '"best"' if model.card.thresholds else "0.5"
    note = (
        "\nThe threshold `best` is one for each class: that of the highest F1 on the validation "
        "images.\n"
        if model.card.thresholds
        else ""
    )
    return (
        "## Use\n\n```python\nimport setmatch as sm\n"
        f'{first}\nmodel = sm.load("{model.name}")\n'
        f'found = sm.predict(model, "image.jpg", threshold={threshold})\n'
        'found.draw().save("found.png")\n```\n'
        f"{note}\n"
        f"Or `setmatch predict {model.name} image.jpg --out results`. The same name starts "
        f"fine-tuning on your own images: `setmatch train my_data --weights {model.name} --out "
        "runs/mine`.\n"
    )


def _results(model: SharedModel) -> str:
    numbers = model.metrics.numbers() if model.metrics is not None else {}
    if not numbers:
        return "## Results\n\nNot measured when this page was written.\n"
    images = model.data.validation_images if model.data is not None else None
    split = "the validation split" if images is None else f"{images:,} validation images"
    return (
        f"## Results\n\nIn percent, by COCO's metrics, on {split} of {_plain(model.data_name)}.\n\n"
        + _table(list(numbers), [[percent(value) for value in numbers.values()]])
    )


def _classes(model: SharedModel) -> str:
    categories = model.card.categories
    measured = model.metrics.by_class if model.metrics is not None else {}
    measures = list(next(iter(measured.values())).scores) if measured else []
    learned = model.data.objects if model.data is not None else {}
    head = ["class", *(["objects to learn"] if learned else [])]
    head += [*measures, "objects to find"] if measured else []
    head += ["best threshold"] if model.card.thresholds else []
    rows = []
    for index in range(min(len(categories), _MOST_CLASSES)):
        name = categories.name(index)
        row = [_plain(name)]
        if learned:
            row.append(f"{learned.get(name, 0):,}")
        if measured:
            found = measured.get(name)
            row += [percent(found.scores[each]) if found else "–" for each in measures]
            row.append(f"{found.objects:,}" if found else "–")
        if model.card.thresholds:
            best = model.card.thresholds.get(name)
            row.append("–" if best is None else f"{best:.2f}")
        rows.append(row)
    left = len(categories) - len(rows)
    more = f"\nAnd {left:,} more, which `model.json` names.\n" if left else ""
    return f"## Classes\n\n{_table(head, rows)}{more}"


def _data(model: SharedModel) -> str:
    source = model.card.source
    if source.startswith(TRAINED_ON):
        parts = [f"The model was {_plain(source)}."]
    else:
        parts = [f"The weights are from {_plain(source)}." if source else "Nothing is stated."]
    if model.data is not None:
        objects = sum(model.data.objects.values())
        parts.append(
            f"It learned from {objects:,} objects in {model.data.images:,} training "
            f"image{'s' * (model.data.images != 1)}."
        )
    if model.metrics is not None and model.metrics.step is not None:
        parts.append(
            f"These are the weights after step {model.metrics.step:,}, the best ones on the "
            "validation split."
        )
    return f"## Data\n\n{' '.join(parts)}\n"


def _preprocessing(preprocessing: Preprocessing) -> str:
    if preprocessing.size_px is not None:
        height, width = preprocessing.size_px
        size = f"resized to {height} × {width} px (height × width)"
    else:
        size = (
            f"resized until the short side has {preprocessing.short_side_px} px, or less if the "
            f"long side would exceed {preprocessing.long_side_px} px"
        )
    mean = ", ".join(f"{value:g}" for value in preprocessing.mean)
    std = ", ".join(f"{value:g}" for value in preprocessing.std)
    return (
        f"## Preprocessing\n\nImages are RGB, {size}, scaled to 0..1, and normalized by the mean "
        f"({mean}) and the standard deviation ({std}). setmatch does this by itself; boxes are in "
        "pixels of the original image.\n"
    )


def _limits(model: SharedModel) -> str:
    lines = [
        "- Other classes than those above: their objects are left out, or taken for one of these.",
        "- Images unlike those that it was trained on, by another camera, scale, season or place. "
        f"Measure it first: `setmatch evaluate {model.name} your_data`.",
        "- Decisions about people, or about anybody's safety, that no person checks: it misses "
        "objects and reports some that are not there.",
    ]
    measured = model.metrics.by_class if model.metrics is not None else {}
    weak = [
        f"{name} ({each.main[0]} {percent(each.main[1])})"
        for name, each in sorted(measured.items(), key=lambda item: item[1].main[1] or 0)
        if each.objects and each.main[1] is not None and each.main[1] < _LOW_SCORE
    ]
    unsure = [name for name, each in measured.items() if 0 < each.objects < _FEW_OBJECTS]
    if weak:
        lines.append(f"- Work that rests on the classes it finds worst: {_listed(weak)}.")
    if unsure:
        lines.append(
            f"- Trust in the numbers of classes with fewer than {_FEW_OBJECTS} objects to find, "
            f"which chance decides: {_listed(unsure)}."
        )
    return "## What it is not for\n\n" + "\n".join(lines) + "\n"


def _license(model: SharedModel) -> str:
    license, carried = model.card.license, model.carried_license
    if license == UNKNOWN:
        text = "None is stated. Ask the owner of this page before you use the weights."
    else:
        text = f"The weights are licensed under {_plain(license)}."
    terms = KNOWN.get(carried)
    if terms is not None:
        text += f" They carry terms: {_plain(terms.summary)}."
    elif carried not in (license, UNKNOWN):
        text += (
            f" Those that training started from are under {_plain(carried)}, which still holds for "
            "what is left of them."
        )
    return f"## License\n\n{text}\n"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---", *(["---:"] * (len(head) - 1))], *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _MOST_NAMED:,} more" if len(names) > _MOST_NAMED else ""
    return ", ".join(map(_plain, names[:_MOST_NAMED])) + more


def _plain(text: str) -> str:
    """Return a text in one line that Markdown shows as it is, whatever it contains."""
    printable = "".join(each if each.isprintable() else " " for each in text[:300])
    return _SPECIAL.sub(r"\\\1", " ".join(printable.split()))


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-") or UNKNOWN
