"""The worker that torchrun starts, on one machine or several: `torchrun … -m recsys.models.distributed.worker FOLDER`.

Goes on from the newest checkpoint in the folder, so it may be killed and started again at any moment.
"""

import json
import os
import sys
import time
from pathlib import Path

from recsys.process import LAUNCHED, end_with_parent

if __name__ == "__main__":  # before torch is imported: that takes seconds, in which the parent may die
    end_with_parent(os.environ.get(LAUNCHED))

import torch
from torch.distributed.elastic.multiprocessing.errors import record

from recsys.data.folder import failpoint, open_array, read_text, replace_text
from recsys.imports import resolve
from recsys.models.distributed import sharded
from recsys.models.distributed.torchrun import PROGRESS, WORK, GoesOn, WorkerTask

_POLL_SECONDS = 0.1


@record  # so that torchrun ends with the words of the first that failed
def work(folder: Path) -> None:
    """Train up to the last epoch, with a checkpoint after each; ends as soon as the folder holds other work."""
    given = read_text(folder / WORK)
    plan = json.loads(given)
    arrays = {path.stem: open_array(path) for path in folder.glob("*.npy")}
    with sharded.group(torch.device(plan["device"])) as device:
        task: WorkerTask = resolve(plan["task"])(plan["facts"], arrays, device)
        done = sharded.newest(folder)
        sharded.load(folder, done, task.state)
        sys.stderr.write(f"worker {sharded.rank()} begins with epoch {done + 1}\n")
        for epoch in range(done + 1, plan["epochs"] + 1):
            while sharded.holds(folder, before=epoch - 1):  # so that two checkpoints at most are there
                time.sleep(_POLL_SECONDS)
            task.train_epoch(epoch, _progress(folder, epoch))
            if read_text(folder / WORK) != given:
                return
            sharded.save(folder, epoch, task.state)


def _progress(folder: Path, epoch: int) -> GoesOn:
    """Write the share of the epoch that is done to a file, once for each hundredth; the first worker does so."""
    written = -1
    here = f"epoch {epoch}, worker {sharded.rank()}, restart {os.environ['TORCHELASTIC_RESTART_COUNT']}"

    def goes_on(done: float) -> bool:
        nonlocal written
        if done > 0.5:
            failpoint(here)
        if sharded.rank() == 0 and int(done * 100) > written:
            written = int(done * 100)
            replace_text(folder / PROGRESS, f"{epoch} {done:.4f}")
        return True  # the job ends its workers

    return goes_on


if __name__ == "__main__":
    work(Path(sys.argv[1]))
