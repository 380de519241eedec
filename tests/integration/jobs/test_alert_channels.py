"""Alerts arrive by webhook, by e-mail over TLS and at a command; secrets stay out of the words about a fault."""

import json
from email import message_from_string, policy

import pytest
from command_line import run_here
from mail_server import mail_server, write_certificate
from nights import receiver

from jobs.schedule.channels import mail, open_channels, run_command
from jobs.schedule.messages import message
from recsys.config.loading import load_config
from recsys.config.settings import AlertSettings
from recsys.errors import ConfigError

WHAT = message(
    AlertSettings(shop="Wine"),
    "wine_",
    job="train",
    status="failed",
    error="SourceError: the query of items failed",
    host="night-1",
    run_id=7,
    findings=[{"severity": "error", "reason": "no item", "rows": 1200, "of": 5000}],
    due_at=1_577_880_000_000_000,
)


def mailing(server, folder, **others):
    values = {"smtp_host": "localhost", "smtp_port": server.port, "smtp_ca_file": folder / "cert.pem", **others}
    return AlertSettings(email_to=("anna@example.com", "bo@example.com"), email_from="recsys@example.com", **values)


@pytest.mark.parametrize("security", ["starttls", "tls"])
def test_mail_goes_out_over_tls_with_an_account(tmp_path, security):
    with mail_server(tmp_path, security=security) as server:
        settings = mailing(server, tmp_path, smtp_security=security, smtp_user="recsys", smtp_password="s3cr3t")
        assert mail(settings, WHAT) is None
    assert (server.secured, server.accounts) == ([True], ["recsys s3cr3t"])
    letter = message_from_string(server.letters[0], policy=policy.default)
    assert letter["Subject"].strip() == "[Wine] train failed on night-1: SourceError: the query of items failed"
    assert (letter["To"], letter["From"]) == ("anna@example.com, bo@example.com", "recsys@example.com")
    assert letter["Auto-Submitted"] == "auto-generated"
    text = letter.get_content()
    for line in (
        "Reason: SourceError: the query of items failed",
        "What to do: `recsys source check` repeats the query and shows the message of the shop's database.",
        "Shop: Wine",
        "Host: night-1",
        "Run: 7",
        "Due: 2020-01-01T12:00:00Z",
        "  error: no item, 1,200 of 5,000 rows",
    ):
        assert line in text.splitlines()


def test_without_tls_nothing_is_sent_unless_the_settings_say_so(tmp_path):
    with mail_server(tmp_path, security="none") as server:
        assert mail(mailing(server, tmp_path), WHAT) == "SMTPNotSupportedError"
        assert server.letters == []
        assert mail(mailing(server, tmp_path, smtp_security="none"), WHAT) is None
    assert server.secured == [False]


def test_a_certificate_that_nobody_vouches_for_and_a_server_that_refuses_are_told_without_the_account(tmp_path):
    with mail_server(tmp_path) as server:
        found = mail(mailing(server, tmp_path, smtp_ca_file=None), WHAT)
        assert found == "SSLCertVerificationError: self-signed certificate"
        assert mail(mailing(server, tmp_path, smtp_host="127.0.0.2"), WHAT) == "ConnectionRefusedError"
        write_certificate(tmp_path)
    with mail_server(tmp_path, refuse="AUTH") as server:
        found = mail(mailing(server, tmp_path, smtp_user="recsys", smtp_password="s3cr3t"), WHAT)
    assert found == "the server answered 550 (SMTPAuthenticationError)"
    assert mail(mailing(server, tmp_path), WHAT) == "ConnectionRefusedError"


def test_slack_gets_one_text(tmp_path):
    with receiver() as (url, posted):
        for form in ("slack", "json"):
            assert open_channels(AlertSettings(webhook_url=url, webhook_form=form))["webhook"](WHAT) is None
    assert list(posted[0]) == ["text"]
    assert "What to do: " in posted[0]["text"]
    assert posted[1] == WHAT


def test_a_command_gets_the_alert_and_its_exit_code_counts(tmp_path):
    assert run_command(("/bin/sh", "-c", f"cat > {tmp_path}/got"), WHAT) is None
    assert json.loads((tmp_path / "got").read_text()) == WHAT
    assert run_command(("/bin/sh", "-c", "echo no pager >&2; exit 3"), WHAT) == "exit code 3: no pager"
    assert run_command(("/no/such/program",), WHAT) == "it cannot be started: No such file or directory"


def test_the_test_reaches_every_channel_and_says_which_failed(tmp_path):
    settings = tmp_path / "recsys.toml"
    settings.write_text("")
    nothing = run_here("alerts", "test", "--config", settings)
    assert (nothing.returncode, "[alerts] names no channel" in nothing.stderr) == (2, True)
    with mail_server(tmp_path) as server, receiver() as (url, posted):
        settings.write_text(
            f"[alerts]\nshop = 'Wine'\nwebhook_url = '{url}'\nemail_to = ['anna@example.com']\n"
            f"smtp_ca_file = 'cert.pem'\nsmtp_port = {server.port}\ncommand = ['/bin/false']\n"
        )
        done = run_here("alerts", "test", "--json", "--config", settings)
    assert done.returncode == 1
    assert json.loads(done.stdout) == {
        "webhook": {"sent": True, "fault": None},
        "email": {"sent": True, "fault": None},
        "command": {"sent": False, "fault": "exit code 1"},
    }
    assert posted[0]["status"] == "test"
    assert "[Wine] schedule test" in server.letters[0]


@pytest.mark.parametrize(
    ("keys", "fault"),
    [
        ("email_to = ['anna@example.com, bo@example.com']", "is no address"),
        ("smtp_user = 'recsys'", "smtp_user and smtp_password belong together"),
        (
            "smtp_user = 'recsys'\nsmtp_password = 's3cr3t'\nsmtp_security = 'none'",
            "would send the password in the clear",
        ),
        ("smtp_password = 77", "found a value of type int"),
    ],
)
def test_settings_that_cannot_work_are_refused(tmp_path, keys, fault):
    settings = tmp_path / "recsys.toml"
    settings.write_text(f"[alerts]\n{keys}\n")
    with pytest.raises(ConfigError, match=fault) as refused:
        load_config(settings, {})
    assert "s3cr3t" not in str(refused.value)


def test_the_password_may_lie_in_a_file(tmp_path):
    (tmp_path / "password").write_text("s3cr3t\n")
    settings = tmp_path / "recsys.toml"
    settings.write_text("[alerts]\nsmtp_user = 'recsys'\nsmtp_password_file = 'password'\n")
    password = load_config(settings, {}).alerts.smtp_password
    assert password is not None
    assert password.get_secret_value() == "s3cr3t"
