"""`setmatch audit`: check a data set and recommend how to train on it."""

from pathlib import Path

from setmatch.cli.options import Boxes, Data, Format, Switch
from setmatch.cli.written import say_written


def audit(
    data: Data,
    /,
    *,
    json: Path | None = None,
    html: Path | None = None,
    write_recipe: Path | None = None,
    fix: Path | None = None,
    all_images: Switch = False,
    time: Switch = False,
    format: Format = None,
    boxes: Boxes = None,
) -> None:
    """Check a data set for problems, and recommend how to train on it.

    For example:

        setmatch audit data/
        setmatch audit data/ --html audit.html --write-recipe plan.yaml
        setmatch audit data/ --fix fixed/

    The exit code is 1 if a problem must be fixed by hand.

    Parameters
    ----------
    json
        Write all statistics and findings to this JSON file.
    html
        Write an HTML page with sample images to this file.
    write_recipe
        Write the recommended training recipe to this YAML file.
    fix
        Write fixed annotations (COCO JSON) and a list of all changes to this folder.
    all_images
        Open every image. By default, 300 images of each split are opened.
    time
        Measure how long the recommended training takes, with a few training steps.
    """
    from rich.console import Console

    from setmatch.data.audit.audit import audit
    from setmatch.data.audit.console import render
    from setmatch.data.audit.outputs import AuditFiles
    from setmatch.training.machine.profile_step import seconds_per_step

    files = AuditFiles(json, html, write_recipe, fix)
    files.require_writable()
    result = audit(
        data,
        format=format,
        boxes=boxes,
        all_images=all_images,
        timer=seconds_per_step if time else None,
        recipe=write_recipe,
        progress=True,
    )
    Console().print(render(result))
    print(*result.commands, sep="\n")
    for line in files.write(result):
        print(line)
    say_written(json, html, write_recipe, fix)
    result.require_no_errors()
