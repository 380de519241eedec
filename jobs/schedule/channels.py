"""The ways to people: a webhook, e-mail, a command. Each sends one message and returns what went wrong, or None.

What is returned goes into logs, so it names no address, account or password.
"""

import json
import smtplib
import socket
import ssl
import subprocess
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from email.message import EmailMessage
from email.utils import formatdate, make_msgid
from functools import partial
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import Any
from urllib.parse import urlsplit

from recsys.config.settings import AlertSettings

TIMEOUT_SECONDS = 10.0
COMMAND_SECONDS = 30.0

Message = Mapping[str, Any]  # as jobs.schedule.messages builds it
Channel = Callable[[Message], str | None]


def open_channels(settings: AlertSettings) -> dict[str, Channel]:
    """The configured channels by name; none: alerts are only logged."""
    channels: dict[str, Channel] = {}
    if settings.webhook_url is not None:
        channels["webhook"] = partial(post, settings.webhook_url.get_secret_value(), settings.webhook_form)
    if settings.email_to:
        channels["email"] = partial(mail, settings)
    if settings.command:
        channels["command"] = partial(run_command, settings.command)
    return channels


def post(url: str, form: str, message: Message) -> str | None:
    """Post a message. Any answer from 200 to 299 counts as received; redirects are not followed."""
    parts = urlsplit(url)
    kind = HTTPSConnection if parts.scheme == "https" else HTTPConnection
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    body = json.dumps(message if form == "json" else {"text": as_text(message)}).encode()
    headers = {"Content-Type": "application/json", "User-Agent": "recsys"}
    start = time.monotonic()
    try:
        with closing(kind(str(parts.hostname), parts.port, timeout=TIMEOUT_SECONDS)) as connection:
            connection.request("POST", path, body, headers)
            status = connection.getresponse().status
    except (OSError, HTTPException, ValueError) as error:  # ValueError: a host or path that cannot be sent
        return f"{type(error).__name__} after {time.monotonic() - start:.1f} s"
    return None if 200 <= status < 300 else f"the receiver answered {status}"


def mail(settings: AlertSettings, message: Message) -> str | None:
    """Send a message as plain text to every address, over TLS unless the settings say otherwise."""
    letter = EmailMessage()
    letter["Subject"] = message["text"].splitlines()[0][:200]
    letter["From"] = settings.email_from or f"recsys@{socket.getfqdn()}"
    letter["To"] = ", ".join(settings.email_to)
    letter["Date"], letter["Message-ID"] = formatdate(), make_msgid(domain="recsys.invalid")
    letter["Auto-Submitted"] = "auto-generated"
    letter.set_content(as_text(message))
    try:
        with _connect(settings) as server:
            if settings.smtp_user is not None and settings.smtp_password is not None:
                server.login(settings.smtp_user, settings.smtp_password.get_secret_value())
            refused = server.send_message(letter)
    except smtplib.SMTPResponseException as error:
        return f"the server answered {error.smtp_code} ({type(error).__name__})"
    except (OSError, smtplib.SMTPException, ValueError) as error:  # ValueError: a name that cannot be sent
        return f"{type(error).__name__}{_of_certificate(error)}"
    return f"the server refused {len(refused)} of {len(settings.email_to)} addresses" if refused else None


def run_command(command: tuple[str, ...], message: Message) -> str | None:
    """Run a program with the message as JSON on its standard input. Exit code 0 counts as received."""
    try:
        done = subprocess.run(  # noqa: S603  (the operator's own program)
            command,
            input=json.dumps(message),
            text=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            timeout=COMMAND_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"no end after {COMMAND_SECONDS:g} s"
    except OSError as error:
        return f"it cannot be started: {error.strerror}"
    said = (done.stderr.strip().splitlines() or [""])[-1][:200]
    return None if done.returncode == 0 else f"exit code {done.returncode}{f': {said}' if said else ''}"


def as_text(message: Message) -> str:
    """Write a message for people: the headline, then a line for each thing that is known."""
    shown = (
        ("Reason", message["error"]),
        ("What to do", message["remedy"]),
        ("Shop", message["shop"]),
        ("Host", message["host"]),
        ("Job", message["job"]),
        ("Run", message["run_id"]),
        ("Due", message["due_at"]),
        ("Started", message["started_at"]),
        ("Ended", message["finished_at"]),
        ("Last success", message["succeeded_at"]),
    )
    lines = [message["text"], "", *(f"{name}: {value}" for name, value in shown if value is not None)]
    findings = [f"  {f['severity']}: {f['reason']}, {f['rows']:,} of {f['of']:,} rows" for f in message["findings"]]
    return "\n".join([*lines, *(["The check of the source:", *findings] if findings else [])])


def _connect(settings: AlertSettings) -> smtplib.SMTP:
    if settings.smtp_security == "none":
        return smtplib.SMTP(settings.smtp_host, settings.smtp_port, timeout=TIMEOUT_SECONDS)
    context = ssl.create_default_context(cafile=settings.smtp_ca_file)
    if settings.smtp_security == "tls":
        return smtplib.SMTP_SSL(settings.smtp_host, settings.smtp_port, timeout=TIMEOUT_SECONDS, context=context)
    server = smtplib.SMTP(settings.smtp_host, settings.smtp_port, timeout=TIMEOUT_SECONDS)
    try:
        server.starttls(context=context)  # raises when the server does not offer it: nothing is sent in the clear
    except BaseException:
        server.close()
        raise
    return server


def _of_certificate(error: Exception) -> str:
    return f": {error.verify_message}" if isinstance(error, ssl.SSLCertVerificationError) else ""
