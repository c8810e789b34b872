"""Find files in which objects are marked as crowds, and would never be learned."""

from collections.abc import Iterator

import numpy as np

from setmatch.data.audit.findings import Finding, Severity
from setmatch.data.dataset import DetectionDataset

_FEWEST = 5  # fewer crowds may be chance
_PART = 10  # one in so many annotations; of COCO's own, one in 80 is a crowd
_DIFFICULT = "marked difficult"  # of Pascal VOC, where this is usual


def check_crowds(split: str, dataset: DetectionDataset) -> Iterator[Finding]:
    """Yield one finding if more than one in ten annotations is a crowd.

    CVAT marks every mask that was painted with a brush so. Objects without masks may well be
    regions to ignore.
    """
    crowds = np.flatnonzero(dataset.crowd)
    is_usual = any(fix.description.startswith(_DIFFICULT) for fix in dataset.fixes)
    if len(crowds) < _FEWEST or _PART * len(crowds) <= len(dataset.crowd) or is_usual:
        return
    masks = dataset.segmentations
    painted = 0 if masks is None else sum(bool(masks.run_lengths(row)) for row in crowds.tolist())
    severity: Severity = "error" if 2 * painted > len(crowds) else "note"
    yield Finding(
        severity,
        "crowd regions among the objects",
        "neither trained on nor counted; if each is one object, write iscrowd 0: CVAT marks "
        "painted masks as crowds",
        split,
        value=f"{len(crowds)} of {len(dataset.crowd)} annotations have iscrowd 1",
    )
