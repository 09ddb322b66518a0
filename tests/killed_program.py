"""A training program that a test kills: ``python killed_program.py FOLDER STEPS``. It begins where the newest checkpoint in FOLDER ends.

Everything that has a state is in it: dropout, batch norm, Adam, a schedule, a GradScaler, a mean of the weights, a loader that shuffles, and
draws from Python's and NumPy's streams. A checkpoint is written every other step, so that a run is mostly writing.
"""

from __future__ import annotations

import random
import sys

import numpy as np

import tinygrad_ja as tg
from tinygrad_ja import nn, optim
from tinygrad_ja.optim.swa_utils import AveragedModel, get_ema_avg_fn


def main(folder: str, steps: int) -> None:
    tg.manual_seed(0)
    random.seed(0)
    np.random.seed(0)
    data = tg.data.TensorDataset(tg.randn(20, 3), tg.randn(20, 1))
    loader = tg.data.DataLoader(data, batch_size=4, shuffle=True, generator=tg.Generator().manual_seed(1))
    model = nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.3), nn.Linear(8, 1))
    ema = AveragedModel(model, avg_fn=get_ema_avg_fn(0.9), use_buffers=True)
    optimizer = optim.Adam(model.parameters(), lr=0.01)
    schedule = optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.02, total_steps=steps + 1)
    scaler = tg.amp.GradScaler("cpu", init_scale=2.0**10, growth_interval=7)
    parts = {"model": model, "ema": ema, "optimizer": optimizer, "schedule": schedule, "scaler": scaler, "loader": loader}
    checkpoints = tg.io.Checkpoints(folder, parts, keep=2, best=1)

    found = checkpoints.restore()
    step, losses = (found.step, found.extra["losses"]) if found else (0, [])
    print("ready", flush=True)
    while step < steps:
        for x, d in loader:
            loss = nn.functional.mse_loss(model(x + random.gauss(0.0, 0.1)), d + float(np.random.normal()))
            optimizer.zero_grad()
            scaler.scale(loss).backward()
            scaler.step(optimizer)
            scaler.update()
            schedule.step()
            ema.update_parameters(model)
            step += 1
            losses.append(loss.item())
            if step % 2 == 0:
                checkpoints.save(step, metric=losses[-1], extra={"losses": losses})
            if step == steps:
                break


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
