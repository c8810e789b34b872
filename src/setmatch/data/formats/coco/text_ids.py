"""COCO files whose ids are texts, such as UUIDs, the ids of a database, or file names: numbered."""

from collections.abc import Mapping, Sequence
from typing import Any

from setmatch.data.dataset import AnnotationFix
from setmatch.data.formats.columns import Records, as_integer

_NUMBERED = "text instead of a number: numbered in the order of the file"
_USES = {"images": "image_id", "categories": "category_id"}  # of annotations, by list


def numbers_of(ids: Sequence[object]) -> dict[str, int]:
    """Return a number from 1 for each id of a list, by its text; nothing where all are numbers."""
    if not any(isinstance(each, str) and as_integer(each) is None for each in ids):
        return {}
    texts = dict.fromkeys(str(each) for each in ids if isinstance(each, str | int))
    return {text: number for number, text in enumerate(texts, start=1)}


def number_of(numbers: Mapping[str, int], id_: Any) -> Any:
    """Return the number of an id that is written as text, and any other value unchanged."""
    return numbers.get(str(id_), id_) if isinstance(id_, str | int) else id_


def number_text_ids(lists: Mapping[str, Records], fixes: list[AnnotationFix]) -> None:
    """Replace ids that are texts, in all lists of a COCO file; record it in `fixes`."""
    for key, records in lists.items():
        numbers = numbers_of(records.values("id"))
        if not numbers:
            continue
        value = records.describe("id", range(len(records)))
        fixes.append(AnnotationFix.of_many(value, _NUMBERED))
        for record in records.rows:
            record.id = number_of(numbers, record.id)
        if key in _USES:
            for record in lists["annotations"].rows:
                setattr(record, _USES[key], number_of(numbers, getattr(record, _USES[key])))
