"""Check what the night and the service need: extract, room, channels of alerts, ports."""

import http.client
import json
import socket
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit

from jobs.doctor.answer import Answer
from jobs.schedule.remembered import Remembered
from jobs.schedule.resources import MEGABYTE, available_memory, free_disk
from recsys.config.loading import load_config
from recsys.config.settings import AlertSettings
from recsys.data.extract import open_extract
from recsys.errors import NotFoundError, RecsysError

SECONDS = 5.0


def check_extract(config: str) -> Answer:
    """Whether the extract is complete and as it was written; none yet is fine."""
    allowed = "none, or one that verifies"
    try:
        extract = open_extract(load_config(Path(config)).storage.path)
    except NotFoundError:
        return True, "none written yet", allowed
    except (RecsysError, OSError, ValueError) as error:
        return False, str(error), f"{allowed}: `recsys train` writes it anew"
    return True, f"{len(extract.events):,} events of {len(extract.users):,} users", allowed


def check_needs(config: str) -> Answer:
    """Whether there is as much disk and memory as the last night needed."""
    settings = load_config(Path(config))
    folder = settings.storage.path
    needs = Remembered(folder).section("needs")
    disk, memory = free_disk(folder), available_memory()
    found = f"{disk / MEGABYTE:,.0f} MB of disk and {memory / MEGABYTE:,.0f} MB of memory are free"
    if not needs:
        return True, f"{found}; no night has run here", "what the last night needed"
    wanted_disk = max(int(need.get("disk", 0)) for need in needs.values())
    wanted_memory = max(int(need.get("memory", 0)) for need in needs.values())
    wanted = f"{wanted_disk / MEGABYTE:,.0f} MB of disk and {wanted_memory / MEGABYTE:,.0f} MB of memory"
    if disk < wanted_disk or memory < wanted_memory:
        mend = "`recsys bundles prune`, a larger disk, more memory, or an hour at which others need less"
        return False, found, f"{wanted}, as the last night needed: {mend}"
    return True, found, f"{wanted}, as the last night needed"


def check_alerts(config: str) -> Answer:
    """Whether somebody is told, and the servers of the channels can be reached. Sends nothing."""
    settings = load_config(Path(config)).alerts
    places = _places(settings)
    if not places and not settings.command:
        return True, "no channel: alerts are only logged", "webhook_url, email_to or command in [alerts]"
    for channel, (host, port) in places.items():
        try:
            socket.create_connection((host, port), SECONDS).close()
        except OSError as error:
            mend = f"a server that answers: {channel} in [alerts]; then `recsys alerts test`"
            return False, f"{channel} cannot be reached: {type(error).__name__}", mend
    names = ", ".join([*places, *(["command"] if settings.command else [])])
    return True, names, "channels that can be reached; `recsys alerts test` sends to each"


def check_ports(config: str) -> Answer:
    """Whether the service can listen at its port, or does so already."""
    api = load_config(Path(config)).api
    where = f"{api.host}:{api.port}"
    try:
        with closing(socket.socket()) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((api.host, api.port))
    except OSError as error:
        if _is_ours(api.host, api.port):
            return True, f"`recsys serve` answers at {where}", "a free port, or the service"
        mend = "a free port of this machine: host and port in [api], or --port"
        return False, f"{where}: {error.strerror}", mend
    return True, f"{where} is free", "a free port, or the service"


def _places(settings: AlertSettings) -> dict[str, tuple[str, int]]:
    places = {}
    if settings.webhook_url is not None:
        url = urlsplit(settings.webhook_url.get_secret_value())
        places["webhook_url"] = (str(url.hostname), url.port or (443 if url.scheme == "https" else 80))
    if settings.email_to:
        places["smtp_host"] = (settings.smtp_host, settings.smtp_port)
    return places


def _is_ours(host: str, port: int) -> bool:
    """Whether the service answers there."""
    name = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104  (it is asked, not listened at)
    try:
        with closing(http.client.HTTPConnection(name, port, timeout=SECONDS)) as connection:
            connection.request("GET", "/v1/health/live")
            answer = json.loads(connection.getresponse().read(1000))
    except (OSError, http.client.HTTPException, ValueError):
        return False
    return bool(answer == {"status": "live"})
