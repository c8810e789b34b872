"""Queries chosen by the image: peaks first, ties apart, padding never before the image."""

import torch

from encoder_memory import memory_of
from setmatch.models.layers.hybrid_encoder import Memory
from setmatch.models.layers.queries import QuerySelection


def test_top_k_takes_peaks_first():
    """Each token at most once; fewer tokens than queries give fewer queries."""
    memory = memory_of(((2, 5), (1, 1)), 8)
    queries = QuerySelection(4, 8, 3)
    chosen = queries(memory)
    for image, logits in enumerate(queries.class_head(queries.prepare(memory.tokens))):
        level = logits[:10].view(2, 5, 3)
        surpassed = torch.ones(11, 3, dtype=torch.bool)
        for row in range(2):
            for column in range(5):
                around = level[:, max(column - 1, 0) : column + 2].amax((0, 1))
                surpassed[5 * row + column] = level[row, column] < around
        surpassed[10] = False  # alone on its level
        assert surpassed[:10].any()
        assert not surpassed[:10].all()
        owed = (logits - 1000 * surpassed).amax(1).topk(4).indices
        assert torch.equal(chosen.logits[image], logits[owed])
    assert chosen.content.requires_grad is False
    assert QuerySelection(50, 8, 3)(memory).cxcywh.shape == (2, 11, 4)


def test_cells_that_tie_surpass_each_other_nowhere():
    """Of a plateau all cells are peaks but those beside a likelier one; none is chosen twice."""
    queries = QuerySelection(4, 8, 1)
    logits = torch.tensor([1.0, 1.0, 3.0, 1.0, 1.0, 1.0])[None, :, None]
    chosen = queries.priority(logits, ((1, 6),)).topk(4).indices
    assert sorted(chosen[0].tolist()) == [0, 2, 4, 5]
    flat = Memory(torch.ones(2, 6, 8), None, ((1, 6),), torch.ones(2, 2))
    first, second = queries(flat).cxcywh
    assert len(first.unique(dim=0)) == 4
    assert torch.equal(first, second)  # alike images, the same choice


def test_what_lies_off_the_image_is_chosen_last_and_surpasses_nothing():
    """The padding takes no part, however likely it looks."""
    memory = memory_of(((1, 6),), 8)
    valid = torch.tensor([[True] * 4 + [False] * 2] * 2)
    queries = QuerySelection(4, 8, 3)
    chosen = []
    for seed in range(2):
        torch.manual_seed(seed)
        tokens = torch.where(valid[..., None], memory.tokens, torch.randn(2, 6, 8))
        chosen.append(queries(Memory(tokens, valid, memory.shapes, memory.valid_ratio)))
    assert (chosen[0].cxcywh[..., 0] < 4 / 6).all()
    assert torch.equal(chosen[0].logits, chosen[1].logits)
