"""`recsys alerts test`: one alert to every channel, to see that it arrives."""

from jobs.output import Output, Table
from jobs.schedule.channels import open_channels
from jobs.schedule.messages import message
from recsys.config.settings import Config
from recsys.errors import ConfigError
from recsys.progress import Progress


def send_test(config: Config, *, progress: Progress) -> Output:
    """Send a test to each channel once. Exit code 1 when one did not take it.

    Raises ConfigError when no channel is configured.
    """
    channels = open_channels(config.alerts)
    if not channels:
        raise ConfigError("[alerts] names no channel; allowed are webhook_url, email_to and command")
    what = message(config.alerts, config.store.table_prefix, job="schedule", status="test", error="this is a test")
    outcomes: dict[str, str | None] = {}
    for name, channel in channels.items():
        outcomes[name] = channel(what)
        progress("alerts", len(outcomes) / len(channels))
    rows = [[name, "sent" if fault is None else f"failed: {fault}"] for name, fault in outcomes.items()]
    data = {name: {"sent": fault is None, "fault": fault} for name, fault in outcomes.items()}
    return Output(data, [Table("Test alert", ["channel", "outcome"], rows)], code=int(any(outcomes.values())))
