"""A survey as files: every fact and finding as JSON, the planned recipe as YAML."""

import json
from pathlib import Path

from setmatch.data.survey.report import Survey
from setmatch.errors import DataError
from setmatch.files import whole_file


def write_json(survey: Survey, path: Path) -> None:
    """Write all facts, findings and the plan as JSON."""
    with whole_file(path) as aside:
        text = json.dumps(survey.to_json(), indent=2, ensure_ascii=False, allow_nan=False)
        aside.write_text(text + "\n", encoding="utf-8")


def write_recipe(survey: Survey, path: Path) -> None:
    """Write the planned recipe as YAML for `setmatch train --recipe`.

    Raises DataError when there was nothing to plan for.
    """
    if survey.plan is None:
        raise DataError(f"{survey.data}: no training split that can be read, so there is no plan")
    with whole_file(path) as aside:
        aside.write_text(survey.plan.to_yaml(), encoding="utf-8")
