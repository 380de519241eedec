"""Starting the service, and saying why it does not start."""

import os
import signal
import socket
from importlib import metadata

import psutil
import pytest
from command_line import run_here
from serving import Server, wait_until


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "recsys.toml"
    path.write_text('[store]\nurl = "sqlite:///own.db"\n[storage]\npath = "files"\n')
    return path


@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_a_taken_port_is_named_and_the_exit_code_is_not_that_of_a_refusal(config, monkeypatch, workers, host):
    monkeypatch.setattr("jobs.serve.uvicorn.run", lambda *_, **__: pytest.fail("it listens"))
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = str(other.getsockname()[1])
        done = run_here("serve", "--host", host, "--port", port, "--workers", workers, "--config", config)
    assert done.returncode == 1
    assert done.stderr.startswith(f"failed: cannot listen on {host}:{port}: the port is taken")


def test_an_address_of_another_machine_is_named(config, monkeypatch):
    monkeypatch.setattr("jobs.serve.uvicorn.run", lambda *_, **__: pytest.fail("it listens"))
    run_here("key", "create", "k", "--scope", "recommend", "--config", config)
    done = run_here("serve", "--host", "192.0.2.1", "--port", "0", "--config", config)
    assert done.returncode == 1
    assert "cannot listen on 192.0.2.1:0: Cannot assign requested address" in done.stderr


def test_a_service_that_does_not_start_has_failed_and_is_not_refused(config, monkeypatch):
    def fail(*_, **__):
        raise SystemExit(3)  # as uvicorn ends when the application does not start

    monkeypatch.setattr("jobs.serve.uvicorn.run", fail)
    done = run_here("serve", "--port", "0", "--config", config)
    assert (done.returncode, done.stderr) == (1, "failed: the service did not start; the log above says why\n")


def test_the_version_is_that_of_the_package():
    done = run_here("--version")
    assert (done.returncode, done.stdout) == (0, f"recsys {metadata.version('recsys')}\n")


def test_no_worker_outlives_the_process_that_started_it(config):
    server = Server(config.parent, "--workers", "2")
    try:
        server.wait("/v1/health/live")
        server.each_worker(2)
        workers = psutil.Process(server.process.pid).children(recursive=True)
        os.kill(server.process.pid, signal.SIGKILL)
        server.process.wait()
        wait_until(lambda: all(has_ended(each) for each in workers), seconds=30)
        with socket.create_server(("127.0.0.1", server.port)):
            pass  # the next start finds the port free
    finally:
        server.kill()


def has_ended(process):
    try:
        return process.status() == psutil.STATUS_ZOMBIE  # nobody asked yet how it ended
    except psutil.NoSuchProcess:
        return True
