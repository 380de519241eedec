"""docs/deploy.md without Docker: its compose commands by hand, each as its service would run it, on PostgreSQL.

The containers themselves are not tried here; `make images` does that.
"""

import json
import re
import shlex
import shutil
import socket
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from databases import Databases
from documented import code_in
from readers_shell import run_script
from road import QUICK

ROOT = Path(__file__).parents[2]
SERVICES: dict[str, dict[str, Any]] = yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))["services"]
OURS = [name for name, service in SERVICES.items() if "build" in service]
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
# What an image runs when compose.yaml names no command.
DEFAULTS = dict(re.findall(r"FROM runtime AS (\w+)\n.*?\nCMD (\[.*?\])", DOCKERFILE, re.DOTALL))
SHOP_URL = "postgresql://reader:secret@shop.example/shop"
SMALLER = "recsys sample /data/shop --users 600 --items 300 --events 12000"
QUICKLY = {"TRAINING__MODELS": ["mf"]} | {
    f"MODELS__MF__{key.upper()}": value for key, value in tomllib.loads(QUICK)["models"]["mf"].items()
}
# Stands in for the program docker: a service runs in the reader's folder, with the variables of compose.yaml.
DOCKER = """
docker() {
    [[ $1 = compose ]] || return 1
    shift
    if [[ $1 = --profile ]]; then shift 2; fi
    case "$*" in
        build) ;;
        "up --detach") by_hand migrations; by_hand api; by_hand scheduler ;;
        "up --detach "*) by_hand "$3" ;;
        "run --rm --no-TTY "*) shift 3; by_hand "$@" ;;
        "run --rm "*) shift 2; by_hand "$@" ;;
        *) echo "this test knows no: docker compose $*" >&2; return 1 ;;
    esac
}
by_hand() {
    local name=$1; shift
    . ./.env
    "service_$name" "$@"
}
"""


def commands() -> str:
    """The indented commands of the sections about compose, in the order in which a reader meets them."""
    text = (ROOT / "docs" / "deploy.md").read_text(encoding="utf-8")
    section = text.partition("\n## On one machine with compose\n")[2].partition("\n### Without Docker\n")[0]
    return "\n".join(re.findall(r"^    (.+)$", section, re.MULTILINE)) + "\n"


def started(name: str) -> str:
    """What a container of a service runs: the words of its shell, or one command."""
    service = SERVICES[name]
    if "entrypoint" in service:
        assert service["entrypoint"][:4] == ["tini", "--", "sh", "-c"]
        return str(service["entrypoint"][-1]).replace("exec ", "").replace("recsys sample /data/shop", SMALLER)
    words = ["recsys", *(service.get("command") or json.loads(DEFAULTS[service["build"]["target"]]))]
    # That a scheduler stays at work is tested where it is; it would take a process of its own here.
    return shlex.join([*words, "--show"] if words[1] == "schedule" else words)


def as_function(name: str, url: str, port: int) -> str:
    """A shell function: what the service waits for, then its command, or the one that is given to the function."""
    service = SERVICES[name]
    volume = next(mount.partition(":")[0] for mount in service["volumes"] if mount.endswith(":/data"))
    passed = [key for key, value in service["environment"].items() if value is None]
    own = re.compile(r"postgresql://recsys:.*@database/recsys")
    variables = {key: own.sub(url, value) for key, value in service["environment"].items() if value is not None}
    for mount in service["volumes"]:
        if mount.endswith(":/etc/recsys/recsys.toml:ro"):  # the file beside the reader, which may come from .env
            variables |= {"RECSYS_CONFIG": mount.partition(":/etc/")[0], "RECSYS_STORAGE__PATH": "/data"}
    lines = [
        *(f"by_hand {other}" for other in service["depends_on"] if "build" in SERVICES[other]),
        *(f"[[ -z ${{{key}:-}} ]] || local -x {key}=${key}" for key in passed),
        *(f"local -x {key}={value}" for key, value in variables.items()),
        f'if (($#)); then recsys "$@"; else {started(name)}; fi',
    ]
    body = "\n".join(lines).replace("/data", f"$PWD/volumes/{volume}").replace("--port 8000", f"--port {port}")
    return f"service_{name}() {{\n{body}\n}}\n"


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@pytest.fixture
def reader(tmp_path: Path) -> Path:
    """The folder of a reader: what compose needs of the checkout, the tutorial's shop and queries, smaller."""
    folder = tmp_path / "reader"
    for name in ("docker", "volumes/data", "volumes/sample"):
        (folder / name).mkdir(parents=True)
    (folder / ".venv").symlink_to(sys.prefix)
    shutil.copy(ROOT / "docker" / "recsys.toml", folder / "docker")
    tables = code_in("tutorial.md", "## 2. A shop", "sql")
    assert [tables.count(size) for size in ("1, 60000)", "1500 *", "1, 1500)")] == [1, 1, 1]
    (folder / "shop.sql").write_text(tables.replace("60000", "20000").replace("1500", "500"))
    queries = code_in("tutorial.md", "## 3. Connect it", "toml").partition("[training]")[0]
    (folder / "queries.toml").write_text(queries)
    return folder


@pytest.mark.slow  # a night of its own: what compose would start is tested by itself elsewhere
def test_every_command_about_compose_runs_by_hand(databases: Databases, reader: Path) -> None:
    text = commands()
    ports = {8000: free_port(), 8001: free_port()}
    for published, port in ports.items():
        text = text.replace(f"127.0.0.1:{published}/", f"127.0.0.1:{port}/")
    copied = "cp docker/recsys.toml recsys.toml\n"
    assert [text.count(words) for words in (copied, SHOP_URL, "curl ")] == [1, 1, 2]
    text = text.replace(copied, f"{copied}cat queries.toml >> recsys.toml\n").replace("curl ", "curl -sf ")
    with databases.fresh("postgresql", reader) as own, databases.fresh("postgresql", reader) as shop:
        fill = f"psql --quiet --output /dev/null --set ON_ERROR_STOP=1 --file shop.sql {shop}\n"
        services = [as_function(name, own, ports[8001 if "sample" in name else 8000]) for name in OURS]
        quickly = [f"export RECSYS_{key}={shlex.quote(json.dumps(value))}\n" for key, value in QUICKLY.items()]
        script = "".join([DOCKER, *services, fill, *quickly, text.replace(SHOP_URL, shop)])
        done = run_script(script, reader)
    assert done.returncode == 0, f"{done.stderr[-3000:]}\n{done.stdout[-1000:]}"
    assert done.stdout.count('"reason":"personal"') == 10  # two answers of five items
