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
    """Upload a trained model to the Hugging Face hub, with a page that says what it is.

    For example:

        setmatch push runs/first anna/blood-cells --out look/
        setmatch push runs/first anna/blood-cells --license apache-2.0
        setmatch predict anna/blood-cells cells.jpg --out results

    README.md has classes, data, metrics, preprocessing, use, limits and license. The weights and
    their card go with it, all in one commit. The hub knows you by a token: run `hf auth login`, or
    set HF_TOKEN.

    Parameters
    ----------
    name
        Name on the hub: yours or that of an organization, a slash, and that of the model.
    license
        License of the weights, such as apache-2.0 or cc-by-4.0. Defaults to that which they carry.
    dataset
        Name of the data set on the hub, if it is there.
    metrics
        JSON file of `setmatch evaluate --json`. Defaults to the metrics of a run's best weights.
    private
        Upload for yourself, or your organization, alone.
    replace
        Replace what the repository has. Without, only a new or empty one is written to.
    out
        Write the files to this new folder instead, to look at; nothing is uploaded. README.md may
        be edited there: push the folder then.
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
