"""Files of lower precision: smaller or faster, and measured by what they lose in AP."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from setmatch.data.dataset import DetectionDataset
from setmatch.data.open import open_dataset
from setmatch.deploy.precision.training_images import training_images
from setmatch.errors import ConfigError, VerificationError
from setmatch.evaluation.evaluate import evaluate
from setmatch.evaluation.run_engine import dataset_class_indices
from setmatch.evaluation.summarize import require_objects
from setmatch.inference.engines.base import Engine
from setmatch.structures.metadata import Categories

Precision = Literal["float", "half", "int8"]


@dataclass(frozen=True)
class Lower:
    """How a verified file becomes one of lower precision; some calibrate on training images.

    `require` raises ExtraMissingError without a library that no other precision needs.
    """

    rewrite: Callable[[Path, DetectionDataset], None]
    require: Callable[[], object] | None = None


@dataclass(frozen=True)
class PrecisionLoss:
    """AP on validation images, in percent, of the file in float32 and in lower precision."""

    before: float
    after: float

    @property
    def points(self) -> float:
        """How many points of AP the lower precision costs."""
        return self.before - self.after


@dataclass(frozen=True)
class LowerPrecision:
    """What a file is to be rewritten in, and on which data it is calibrated and measured."""

    name: Precision
    training: DetectionDataset
    validation: DetectionDataset
    tolerance: float

    def rewrite(
        self, path: Path, lower: Lower, open_file: Callable[[Path], Engine]
    ) -> PrecisionLoss:
        """Rewrite a file, and measure it before and after.

        Raises VerificationError if it loses more than `tolerance` points of AP, or has none to
        lose.
        """
        before = 100 * evaluate(open_file(path), self.validation, workers=0).AP
        if not before:
            raise VerificationError(
                f"{self.name}: AP is 0 in float32 already, on {self.validation.source}, so that no "
                "loss can be measured; name data whose objects the model detects"
            )
        lower.rewrite(path, self.training)
        after = 100 * evaluate(open_file(path), self.validation, workers=0).AP
        loss = PrecisionLoss(before, after)
        if not loss.points <= self.tolerance:
            raise VerificationError(
                f"{self.name} loses {loss.points:.2f} AP ({before:.2f} in float32, {after:.2f} in "
                f"{self.name}), more than the tolerance of {self.tolerance:g}; export in float32, "
                "or raise --tolerance"
            )
        return loss


def lower_precision(
    precision: Precision,
    known: Mapping[Precision, Lower],
    data: str | Path | None,
    tolerance: float,
    categories: Categories,
) -> LowerPrecision | None:
    """Return what to do for a precision; None for float32. `known` are those of the format.

    Raises ConfigError for a precision that the format lacks, a tolerance that no file can meet, or
    without data, DataError for a data set that cannot be read, or on which AP says nothing of a
    model of `categories`, ExtraMissingError without the libraries of the precision.
    """
    if precision == "float":
        if data is not None:
            raise ConfigError(f"data {data}: is for lower precision; add --half or --int8")
        return None
    if precision not in known:
        raise ConfigError(f"{precision} is not there for this format; export onnx, openvino or web")
    if data is None:
        raise ConfigError(
            f"{precision} needs data: it is calibrated on training images, and its loss of AP is "
            "measured on validation images; add --data my_data"
        )
    if not tolerance >= 0:
        raise ConfigError(
            f"tolerance {tolerance:g}: is how many points of AP may be lost; give 0 or more"
        )
    require = known[precision].require
    if require is not None:
        require()
    training, validation = (open_dataset(data, split) for split in ("train", "val"))
    dataset_class_indices(categories, validation)
    require_objects(validation)
    if precision == "int8":
        next(training_images(training))  # now, since an export takes minutes
    return LowerPrecision(precision, training, validation, tolerance)
