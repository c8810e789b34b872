"""Query selection: peaks first, no duplicates, padding last."""

import pytest
import torch

from encoder_memory import memory_of
from setmatch.models.layers.cells import Cells
from setmatch.models.layers.encoders.hybrid_encoder import Memory
from setmatch.models.layers.queries.queries import (
    AnchorSelection,
    QuerySelection,
    TokenSelection,
    anchor_boxes,
    chosen_rows,
)


def test_peaks_are_selected_first():
    """Each token at most once; fewer tokens than queries give fewer queries."""
    memory = memory_of(((2, 5), (1, 1)), 8)
    queries = QuerySelection(4, 8, 3)
    chosen = queries(memory)
    for image, logits in enumerate(queries.class_head(queries.prepare(memory.tokens))):
        level = logits[:10].view(2, 5, 3)
        not_a_peak = torch.ones(11, 3, dtype=torch.bool)
        for row in range(2):
            for column in range(5):
                neighborhood = level[:, max(column - 1, 0) : column + 2].amax((0, 1))
                not_a_peak[5 * row + column] = level[row, column] < neighborhood
        not_a_peak[10] = False  # alone on its level
        assert not_a_peak[:10].any()
        assert not not_a_peak[:10].all()
        expected = (logits - 1000 * not_a_peak).amax(1).topk(4).indices
        torch.testing.assert_close(chosen.logits[image], logits[expected])
    assert chosen.content.requires_grad is False
    assert QuerySelection(50, 8, 3)(memory).cxcywh.shape == (2, 11, 4)


def test_equal_neighbors_are_all_peaks():
    """Except those next to a larger logit; none is selected twice."""
    queries = QuerySelection(4, 8, 1)
    logits = torch.tensor([1.0, 1.0, 3.0, 1.0, 1.0, 1.0])[None, :, None]
    chosen = queries.priority(logits, ((1, 6),)).topk(4).indices
    assert sorted(chosen[0].tolist()) == [0, 2, 4, 5]
    flat = Memory(torch.ones(2, 6, 8), ((1, 6),))
    first, second = queries(flat).cxcywh
    assert len(first.unique(dim=0)) == 4
    assert torch.equal(first, second)  # equal images, equal selection


def test_padding_is_selected_last_and_suppresses_no_peak():
    memory = memory_of(((1, 6),), 8)
    valid = torch.tensor([[True] * 4 + [False] * 2] * 2)
    queries = QuerySelection(4, 8, 3)
    chosen = []
    for seed in range(2):
        torch.manual_seed(seed)
        tokens = torch.where(valid[..., None], memory.tokens, torch.randn(2, 6, 8))
        chosen.append(queries(Memory(tokens, memory.shapes, (Cells(valid[:, None]),))))
    assert (chosen[0].cxcywh[..., 0] < 1).all()
    assert chosen[0].real.all()
    assert torch.equal(chosen[0].logits, chosen[1].logits)


@pytest.mark.parametrize("selection", [QuerySelection, AnchorSelection])
def test_gradients_of_the_chosen_tokens_are_those_of_all(selection: type[TokenSelection]):
    """Tokens are scored twice in training, of which the backward pass sees the chosen ones."""
    memory = memory_of(((6, 8), (3, 4)), 8)
    tokens = memory.tokens.double()
    queries = selection(7, 8, 3).double()
    for parameter in queries.parameters():
        torch.nn.init.normal_(parameter)
    gradients = []
    for scored in ("chosen", "all"):
        inputs = tokens.clone().requires_grad_()
        found = queries(Memory(inputs, memory.shapes))
        if scored == "chosen":
            logits, loss = found.logits, found.cxcywh.square().sum()
        else:
            read, every = queries.scored(inputs * _read(selection, memory))
            assert read.requires_grad
            best = _ranked(queries, every, memory).topk(7).indices[..., None]
            assert torch.allclose(chosen_rows(every, best), found.logits)
            logits, loss = chosen_rows(every, best), found.cxcywh.square().sum()
        loss = loss + logits.square().sum()
        gradients.append(torch.autograd.grad(loss, [inputs, *queries.parameters()]))
    for chosen, every in zip(*gradients, strict=True):
        assert every.any()
        assert torch.allclose(chosen, every)


def test_the_backward_pass_of_training_sees_the_chosen_tokens_alone():
    """No gradient is computed for the others, not even one of zeros in every matrix product."""
    memory = memory_of(((6, 8), (3, 4)), 8)
    for selection in (QuerySelection, AnchorSelection):
        queries = selection(7, 8, 3)
        rows = []
        queries.class_head.register_full_backward_hook(
            lambda _, inputs, __, rows=rows: rows.append(inputs[0].shape[1])
        )
        queries(memory).logits.sum().backward()
        assert rows == [7]


def _read(selection: type[TokenSelection], memory: Memory) -> torch.Tensor | float:
    """Return what tokens are multiplied by before they are scored."""
    if selection is QuerySelection:
        return 1.0
    return AnchorSelection.inside(anchor_boxes(memory, AnchorSelection.finest_side))


def _ranked(queries: TokenSelection, logits: torch.Tensor, memory: Memory) -> torch.Tensor:
    if isinstance(queries, QuerySelection):
        return queries.priority(logits, memory.shapes)
    return logits.amax(-1)
