"""What torchrun starts, on one machine or several: `torchrun … -m recsys.models.worker FOLDER`.

Goes on from the newest checkpoint in the folder, so it may be killed and started again at any moment.
"""

import json
import os
import sys
from pathlib import Path

import torch
from torch.distributed.elastic.multiprocessing.errors import record

from recsys.artifact import crash_point, open_array, read_text, replace_text
from recsys.launch import end_with_parent
from recsys.models import sharded
from recsys.models.torchrun import PROGRESS, WORK, Pupil, Report
from recsys.names import resolve


@record  # so that torchrun ends with the words of the first that failed
def work(folder: Path) -> None:
    """Train up to the last epoch, with a checkpoint after each."""
    plan = json.loads(read_text(folder / WORK))
    arrays = {path.stem: open_array(path) for path in folder.glob("*.npy")}
    with sharded.group(torch.device(plan["device"])) as device:
        pupil: Pupil = resolve(plan["pupil"])(plan["facts"], arrays, device)
        done = sharded.newest(folder)
        sharded.load(folder, done, pupil.progress)
        sys.stderr.write(f"worker {sharded.rank()} begins with epoch {done + 1}\n")
        for epoch in range(done + 1, plan["epochs"] + 1):
            pupil.train_epoch(epoch, _progress(folder, epoch))
            sharded.save(folder, epoch, pupil.progress)


def _progress(folder: Path, epoch: int) -> Report:
    """The first worker writes down what share of the epoch is done, once for each hundredth."""
    written = -1
    here = f"epoch {epoch}, worker {sharded.rank()}, restart {os.environ['TORCHELASTIC_RESTART_COUNT']}"

    def report(done: float) -> None:
        nonlocal written
        if done > 0.5:
            crash_point(here)
        if sharded.rank() == 0 and int(done * 100) > written:
            written = int(done * 100)
            replace_text(folder / PROGRESS, f"{epoch} {done:.4f}")

    return report


if __name__ == "__main__":
    end_with_parent()
    work(Path(sys.argv[1]))
