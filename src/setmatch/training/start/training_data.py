"""The images of a run: its training and validation splits, each opened once."""

from dataclasses import dataclass
from pathlib import Path

from setmatch.data.annotations.stuff import drop_stuff
from setmatch.data.audit.preflight import check_files
from setmatch.data.dataset import DetectionDataset
from setmatch.data.open import open_training_splits
from setmatch.errors import DataError
from setmatch.structures.metadata import Categories


@dataclass(frozen=True)
class TrainingData:
    """The training split, and the validation split or held-out images if there are any.

    `name` is that of the folder or file that they are from.
    """

    training: DetectionDataset
    validation: DetectionDataset | None
    name: str = ""

    @property
    def categories(self) -> Categories:
        """The classes to train."""
        return self.training.categories

    def require_masks(self, skip_unreadable: bool) -> None:
        """Make sure that masks can be trained and evaluated.

        Raises DataError if the annotations have no masks, or too many files cannot be read.
        """
        self.training.require_masks()
        check_files(self.training, self.validation, skip_unreadable, masks=True)


def open_training_data(
    data: str | Path,
    format: str | None = None,
    boxes: str | None = None,
    *,
    things_only: bool = False,
    require_segments: bool = False,
) -> TrainingData:
    """Open the training split of `data`, and its validation split.

    Where there is no validation split, some training images are held out, unless `data` is a
    single file. `things_only` leaves out stuff. Raises DataError for data that cannot be read,
    splits without a common class, and, with `require_segments`, data without panoptic annotations.
    """
    training, validation = open_training_splits(data, format, boxes)
    if require_segments:
        training.require_segments()
    if things_only:
        training = drop_stuff(training)
    if validation is not None:
        if not set(validation.categories.names) & set(training.categories.names):
            raise DataError(
                f"{validation.source}: no class in common with {training.source}. Classes are "
                "matched by name; use the same names in both splits"
            )
        if things_only:
            validation = drop_stuff(validation)
    return TrainingData(training, validation, Path(data).resolve().name)
