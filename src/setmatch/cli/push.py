"""`setmatch push`: upload a trained model to the Hugging Face hub."""

from pathlib import Path

from setmatch.cli.options import Model, Switch


def push(
    model: Model,
    name: str,
    /,
    *,
    license: str | None = None,
    dataset: str | None = None,
    metrics: Path | None = None,
    private: Switch = False,
    replace: Switch = False,
    out: Path | None = None,
) -> None:
    """Upload a trained model to the Hugging Face hub, with a model card.

    For example:

        setmatch push runs/first anna/blood-cells --out look/
        setmatch push runs/first anna/blood-cells --license apache-2.0
        setmatch predict anna/blood-cells cells.jpg --out results

    The model card, README.md, has classes, data, metrics, preprocessing, use, limits and license.
    It is uploaded with the weights in one commit. Sign in to the hub first: run `hf auth login`, or
    set HF_TOKEN to a token of yours.

    Parameters
    ----------
    name
        Name on the hub, as OWNER/MODEL. The owner is you or an organization.
    license
        License of the weights, such as apache-2.0 or cc-by-4.0. Defaults to the license in the
        weights.
    dataset
        Name of the training data on the hub, as OWNER/NAME, if it is there.
    metrics
        JSON file written by `setmatch evaluate --json`. Defaults to the metrics of a run's best
        weights.
    private
        Make the repository private: only you, or your organization, can see it.
    replace
        Replace the files of an existing repository. By default it must be new or empty.
    out
        Preview: write the files to this new folder, and upload nothing. You can edit README.md
        there and push the folder.
    """
    from setmatch.sharing.push import push

    pushed = push(
        model,
        name,
        license=license,
        dataset=dataset,
        metrics=metrics,
        private=private,
        replace=replace,
        out=out,
    )
    files = ", ".join(pushed.files)
    if out is not None:
        print(f"written to {out}: {files}; nothing was uploaded")
        print(f"look at {out / 'README.md'}, then run: setmatch push {out} {name}")
        return
    print(f"uploaded {files} to {pushed.place}")
    if pushed.removed:
        print(f"removed what was there: {', '.join(pushed.removed)}")
    print(f"anyone who may see it can run: setmatch predict {name} image.jpg --out results")
