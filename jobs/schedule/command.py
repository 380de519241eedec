"""A scheduled command: `python -m jobs.schedule.command JOB CONFIG WORDS…` runs `recsys WORDS --config CONFIG`.

The run has a row in the ledger under the job's name, like those of commands that write one themselves, and holds the
job's lease.
"""

import sys
from contextlib import closing
from pathlib import Path

from jobs import ledger
from jobs.cli import app, main
from jobs.logs import begin_log
from recsys.config.loading import load_config
from recsys.errors import RecsysError, RefusedError
from recsys.store.migrate import open_store

_REFUSED = 3  # exit code of a command


def run_command(job: str, path: Path, words: list[str]) -> None:
    """Run the command. Raises what it raises, and a RecsysError for an exit code that says that it failed."""
    config = load_config(path)
    begin_log(config.log.form)
    with (
        closing(open_store(config.store.url, config.store.table_prefix)) as store,
        ledger.run(store, job, config),
    ):
        try:
            app([*words, "--config", str(path)], standalone_mode=False)
        except SystemExit as end:
            if end.code == _REFUSED:
                raise RefusedError(f"`recsys {' '.join(words)}` found errors; the scheduler's log has them") from None
            if end.code:
                raise RecsysError(f"`recsys {' '.join(words)}` ended with code {end.code}") from None


if __name__ == "__main__":
    name, file, *rest = sys.argv[1:]
    main(lambda: run_command(name, Path(file), rest))
