"""Random numbers of validations: on every device they are not those of the training, and the training goes on as if nobody had validated."""

from __future__ import annotations

import pytest

import tinygrad_ja as tg
import tinygrad_ja.testing.strict  # registers the device
from tinygrad_ja import nn
from tinygrad_ja.backend import random
from tinygrad_ja.training import Trainer, Update


def trained(device, validate, every):
    """Weights and rows of the log after two epochs with dropout on ``device``, validated every so many steps."""
    tg.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 8), nn.Dropout(0.3), nn.Linear(8, 1)).to(device)
    loader = tg.data.DataLoader(tg.data.TensorDataset(tg.randn(24, 3)), batch_size=4, shuffle=True, device=device)
    update = Update(lambda batch: model(batch[0]).square().mean(), tg.optim.Adam(model.parameters(), lr=0.1))
    trainer = Trainer(model, update, loader, validate=validate, validate_every=every, progress=False, curves=False)
    trainer.run(epochs=2)
    return [p.tolist() for p in model.parameters()], trainer.history


@pytest.mark.parametrize("device", ["cpu", "strict"])
def test_how_often_it_is_validated_changes_nothing_in_the_training(device):
    made = [trained(device, lambda: {"loss": 1.0, "noise": tg.rand((), device=device)}, every) for every in (None, 1, 4)]
    for weights, rows in made[1:]:
        assert weights == made[0][0] and rows[-1]["valid_noise"] == made[0][1][-1]["valid_noise"]


@pytest.mark.parametrize("device", ["cpu", "strict"])
def test_a_seed_that_a_validation_sets_is_its_own(device):
    def validate():
        tg.manual_seed(3)
        return {"loss": 1.0, "noise": tg.rand((), device=device)}

    (weights, rows), (others, other_rows) = [trained(device, validate, every) for every in (None, 1)]
    assert weights == others
    assert len({row["valid_noise"] for row in rows + other_rows}) == 1


def test_a_generator_that_a_validation_makes_starts_from_the_seed_of_the_process_after_it(monkeypatch):
    monkeypatch.setattr(random._streams, "by_device", {})
    tg.manual_seed(5)
    with random.drawing_apart(random.Stream(1)):
        drawn = [tg.rand(3, device="strict")]
    drawn.append(tg.rand(3, device="strict"))
    for made, seed in zip(drawn, (1, 5)):
        assert made.tolist() == tg.rand(3, device="strict", generator=tg.Generator("strict").manual_seed(seed)).tolist()
