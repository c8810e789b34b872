"""Seam: a training loop of one's own, from the library's model, criterion and loader."""

import torch

import setmatch as sm
from setmatch.config import DataSettings, LossWeights, MatchCosts
from setmatch.data.batches.loader import training_batches
from setmatch.data.open import open_dataset
from setmatch.data.synthetic.scenes import write_scenes
from setmatch.losses.criterion import Criterion
from setmatch.models.registry import build
from setmatch.structures.metadata import ModelCard, Preprocessing


def test_a_training_loop_of_ones_own_learns_and_saves(tmp_path):
    data = tmp_path / "data"
    write_scenes(data, 32, 4, 128, seed=0, workers=0)

    images = open_dataset(data, "train")
    card = ModelCard("setmatch_n", {}, images.categories, Preprocessing(128, 128))
    model = build(card)
    criterion = Criterion(model.class_loss, MatchCosts(), LossWeights())
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-4, weight_decay=1e-4)
    settings = DataSettings(augment="flip", workers=0)

    losses = []
    for minibatch in training_batches(images, settings, card.preprocessing, batch_size=8, steps=8):
        predictions = model(minibatch.batch, minibatch.targets)
        loss = criterion(predictions, minibatch.targets)
        optimizer.zero_grad()
        loss.total.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.total.item())

    sm.save(model, tmp_path / "weights")
    report = sm.evaluate(sm.load(tmp_path / "weights"), data, workers=0)

    assert losses[-1] < losses[0]
    assert 0 <= report.AP <= 1
