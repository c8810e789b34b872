"""`setmatch audit`: what is in a data set, and what is wrong with it."""

from pathlib import Path

from setmatch.cli.options import Format, Switch


def audit(
    data: Path,
    /,
    *,
    json: Path | None = None,
    html: Path | None = None,
    recipe: Path | None = None,
    fix: Path | None = None,
    all_images: Switch = False,
    time: Switch = False,
    format: Format = None,
) -> None:
    """Say what is in a data set, what is wrong with it, and how to train on it.

    The exit code is 1 when something must be mended by hand.

    Parameters
    ----------
    data
        Folder of a data set, or an annotation file.
    json
        Write every fact and finding to this file.
    html
        Write a page with pictures to this file.
    recipe
        Write the planned recipe to this file.
    fix
        Write a mended COCO copy of the annotations, and what was changed, to this folder.
    all_images
        Open every picture, not only some hundred of each split.
    time
        Take a few steps of the planned training, to tell how long it would take.
    """
    from dataclasses import replace

    from rich.console import Console

    from setmatch.data.audit.audit import audit, write_json, write_recipe
    from setmatch.data.audit.console import shown
    from setmatch.data.audit.fix import write_mended
    from setmatch.data.audit.html import write_page
    from setmatch.files import require_file, require_folder
    from setmatch.training.profile_step import seconds_per_step

    for path in (json, html, recipe):
        if path is not None:
            require_file(path)
    if fix is not None:
        require_folder(fix)
    timer = seconds_per_step if time else None
    found = audit(data, format=format, all_images=all_images, timer=timer, progress=True)
    found = replace(found, recipe=recipe)
    Console().print(shown(found))
    print(*found.commands, sep="\n")
    for path, write in ((json, write_json), (html, write_page), (recipe, write_recipe)):
        if path is not None:
            write(found, path)
    if fix is not None:
        print(f"changes: {len(write_mended(data, fix, format))}, listed in {fix / 'changes.json'}")
    found.require_sound()
