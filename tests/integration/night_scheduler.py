"""`recsys schedule` with the tests' job and without long waits between looks: night_scheduler.py FOLDER."""

import sys
from pathlib import Path

from jobs.schedule.scheduler import schedule
from recsys.config.loading import load_config

folder = Path(sys.argv[1])
job = (sys.executable, str(Path(__file__).with_name("night_job.py")), str(folder))
schedule(load_config(folder / "recsys.toml"), folder / "recsys.toml", commands={"train": job}, poll_seconds=0.1)
