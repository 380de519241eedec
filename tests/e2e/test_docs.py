"""The documents are true: their commands and examples run, their links lead somewhere, their tables match the code."""

import gzip
import json
import re
import shlex
import shutil
import socket
import subprocess
import sys
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest
from command_line import run_here
from databases import Databases
from once import made_once
from readers_shell import run_script
from road import QUICK
from tiny import quiet

from jobs.init_file import sample
from jobs.train import train
from recsys.config.loading import load_config
from recsys.store.keys import create_key
from recsys.store.migrate import open_store

ROOT = Path(__file__).parents[2]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
OF_THE_PROJECT = [ROOT / "CHANGELOG.md", ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md"]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$(\n+Saved as `([\w.]+)`)?", re.MULTILINE | re.DOTALL)
# http.md: its requests are sent in tests/integration/api/test_api_docs.py; tutorial.md: it begins with nothing.
ELSEWHERE = ("http.md", "tutorial.md")
PATH = re.compile(r"`((?:recsys|jobs|api|migrations|benchmarks|tests|docs)/[\w./-]*)`")
VERSION = re.compile(r"\b\d{8}T[\d.]+Z-\w+-[0-9a-f]{8}\b")

CHECK = """
import sys
from pathlib import Path
from recsys.config.loading import load_config
load_config(Path(sys.argv[1]))
"""
CAMPAIGN = """
import sys
from pathlib import Path
from recsys.campaigns.definition import read_definition
read_definition(Path(sys.argv[1]).read_text(), sys.argv[1])
"""
LAMPS = """name = "lamps"
purpose = "Lamps in autumn"
legal_basis = "consent"
retention_days = 90
control_share = 0.3
audience = { items = ["P00001"], size = 100 }
"""
KEY_ID = "1a2b3c4d"
# Needs 500 customers and half a minute of learning: here it is refused; tests/e2e/test_propensity.py lets it end.
REFUSED = "recsys propensity --out propensity.csv\n"
SHOP_URL = "postgresql://postgres:secret@127.0.0.1/shop"
HURRY = "[training]\nbudget_minutes = 2 "
RETAIL = """InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country
536365,85123A,WHITE HANGING HEART T-LIGHT HOLDER,6,2010-12-01 08:26:00,2.55,17850.0,United Kingdom
536365,71053,WHITE METAL LANTERN,6,2010-12-01 08:26:00,3.39,17850.0,United Kingdom
"""


@dataclass(frozen=True)
class Block:
    language: str
    text: str
    file: str | None  # what the document says that it is saved as


def blocks_of(document: Path) -> list[Block]:
    found = BLOCK.findall(document.read_text(encoding="utf-8"))
    return [Block(language, text, name or None) for language, text, _, name in found]


def as_shell(block: Block, number: int) -> str:
    """Shell commands that do with a block what a reader does."""
    if block.language == "bash":
        return block.text
    if block.language == "python":
        file = block.file or f"block{number}.py"
        return f"cat > {file} <<'END_OF_BLOCK'\n{block.text}END_OF_BLOCK\npython {file}\n"
    if block.language == "toml":
        file = block.file or f"block{number}.toml"
        check = CAMPAIGN if "legal_basis" in block.text else CHECK
        return f"cat > {file} <<'END_OF_BLOCK'\n{block.text}END_OF_BLOCK\npython -c {shlex.quote(check)} {file}\n"
    if block.language == "sql" and block.file:
        return f"cat > {block.file} <<'END_OF_BLOCK'\n{block.text}END_OF_BLOCK\n"
    if block.language in ("json", "ts"):  # bodies, which tests/integration/api/test_api_docs.py sends; `make types`
        return ""
    raise AssertionError(f"nobody knows how to run a block of {block.language}: {block.text}")


def readers_shop(folder: Path) -> None:
    sample(folder, users=600, items=300, events=12_000, seed=1, progress=quiet)
    with (folder / "recsys.toml").open("a") as settings:
        settings.write(QUICK + '[training]\nmodels = ["mf"]\n')
    (folder / "said.csv").write_text("item_id,rating,text\nP00001,1,It broke\n")
    found = run_here("import", folder / "said.csv", "--what", "reviews", "--config", folder / "recsys.toml")
    assert found.returncode == 0, found.stderr
    # As `make demo` does, so that the reader's first training differs in its settings.
    train(load_config(folder / "recsys.toml", {"RECSYS_TRAINING__BUDGET_MINUTES": "1"}), progress=quiet)


@pytest.fixture(scope="module")
def small_shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sample shop with a bundle. Small: documents search for settings, and train several times."""
    return made_once(tmp_path_factory, "documents", readers_shop)


@pytest.fixture(scope="module")
def nights(small_shop: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with another night behind it: two runs to compare, two bundles to go back and forth between."""

    def make(folder: Path) -> None:
        shutil.copytree(small_shop, folder, dirs_exist_ok=True)
        train(load_config(folder / "recsys.toml", {}), progress=quiet)

    return made_once(tmp_path_factory, "nights", make)


@pytest.fixture
def sandbox(small_shop: Path, nights: Path, tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """The folder a reader is in: the sample shop, trained, and the files that the examples name."""
    folder = tmp_path / "reader"
    if request.getfixturevalue("document").name == "README.md":
        folder.mkdir()
        shutil.copytree(small_shop, folder / "demo")
    else:
        shutil.copytree(nights, folder)
        shutil.copy(folder / "recsys.toml", folder / "shop.toml")
        with (folder / "shop.toml").open("a") as settings:
            settings.write(
                '\n[schedule]\ntrain = "0 2 * * *"\n[alerts]\ncommand = ["true"]\n[audience]\ncontrol_share = 0.1\n'
            )
    (folder / ".venv").symlink_to(sys.prefix)
    (folder / "lamps.toml").write_text(LAMPS)
    (folder / "online_retail.csv.gz").write_bytes(gzip.compress(RETAIL.encode()))
    (folder / "test_purchases.csv").write_text("user_id,item_id\n1003,P00001\n1003,P00002\n1024,P00003\n")
    return folder


def live_version(folder: Path) -> str:
    return (next(folder.rglob("bundles")) / "CURRENT").read_text().strip()


def new_key(settings: Path) -> str:
    """The id of a new key of the API, which stands in for the one that the documents name."""
    config = load_config(settings, {})
    with closing(open_store(config.store.url, config.store.table_prefix)) as store:
        return create_key(store, "example", ("recommend",))[0]


def on_a_free_port(text: str) -> str:
    """The commands with a free port in place of the one that the documents name."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return re.sub(r"(--port |127\.0\.0\.1:)8080", rf"\g<1>{free.getsockname()[1]}", text)


@pytest.mark.parametrize("document", [d for d in DOCUMENTS if d.name not in ELSEWHERE], ids=lambda path: path.name)
def test_every_command_and_example_runs(document: Path, sandbox: Path) -> None:
    blocks = blocks_of(document)
    text = "\n".join(as_shell(block, number) for number, block in enumerate(blocks))
    text = VERSION.sub(live_version(sandbox), text).replace(REFUSED, REFUSED.strip() + " || test $? = 3\n")
    if KEY_ID in text:
        text = text.replace(KEY_ID, new_key(next(sandbox.rglob("recsys.toml"))))
    done = run_script(on_a_free_port(text), sandbox)
    assert done.returncode == 0, f"{document.name}: {done.stderr[-3000:]}\n{done.stdout[-1000:]}"


def test_the_tutorial_leads_from_nothing_to_recommendations(databases: Databases, tmp_path: Path) -> None:
    folder = tmp_path / "reader"
    folder.mkdir()
    (folder / ".venv").symlink_to(sys.prefix)
    blocks = blocks_of(ROOT / "docs" / "tutorial.md")
    text = "\n".join(as_shell(block, number) for number, block in enumerate(blocks))
    assert [text.count(words) for words in (SHOP_URL, HURRY)] == [1, 1]
    with databases.fresh("postgresql", tmp_path) as url:
        text = text.replace(SHOP_URL, url).replace(HURRY, QUICK + '[training]\nmodels = ["mf"]')
        done = run_script(on_a_free_port(text), folder)
    assert done.returncode == 0, f"{done.stderr[-3000:]}\n{done.stdout[-1000:]}"
    before, after = (json.loads((folder / f"{name}.json").read_text())["hits"] for name in ("before", "after"))
    assert {hit["reason"] for hit in [*before, *after]} == {"personal"}
    assert before[0]["item_id"] not in {hit["item_id"] for hit in after}
    assert len((folder / "audience.csv").read_text().splitlines()) == 51


def prose_of(document: Path) -> str:
    """A document without its fenced blocks."""
    return re.sub(r"^```.*?^```", "", document.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)


def anchors_of(document: Path) -> set[str]:
    """The anchors that GitHub gives to a document's headings."""
    titles = re.findall(r"^#+ (.+)$", prose_of(document), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("document", [*DOCUMENTS, *OF_THE_PROJECT], ids=lambda path: path.name)
def test_every_link_leads_to_a_file_and_to_a_heading_of_it(document: Path) -> None:
    for name, anchor in re.findall(r"(?:\]\(|href=\"|src=\")([^)\"#:]*)(?:#([\w-]+))?[)\"]", prose_of(document)):
        target = document.parent / name if name else document
        assert target.exists(), f"{document.name} links to {name}"
        assert not anchor or anchor in anchors_of(target), f"{document.name} links to {name}#{anchor}"
        assert not name.startswith("../"), f"{document.name} links to {name}, which the site does not have"


def test_the_index_for_assistants_and_the_site_name_every_page_and_nothing_else() -> None:
    pages = {path.name for path in (ROOT / "docs").glob("*.md")}
    index = re.findall(r"\]\(([^)]+)\)", (ROOT / "docs" / "llms.txt").read_text(encoding="utf-8"))
    assert sorted({*index} ^ {*pages}) == ["api.md", "openapi.json", "quickstart.ipynb"]
    assert all((ROOT / "docs" / name).exists() for name in index)
    navigation = (ROOT / "mkdocs.yml").read_text(encoding="utf-8").partition("\nnav:\n")[2]
    assert sorted(re.findall(r"(\S+\.md)$", navigation, re.MULTILINE)) == sorted(pages)


@pytest.mark.slow
def test_the_notebook_runs() -> None:
    done = subprocess.run(["make", "notebook"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.slow
def test_the_site_builds_without_a_warning() -> None:  # which mkdocs, as configured, takes for an error
    done = subprocess.run(["make", "docs-site"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert (ROOT / "site" / "search" / "search_index.js").exists()


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_path_of_the_code_that_a_document_names_is_there(document: Path) -> None:
    named = PATH.findall(document.read_text(encoding="utf-8"))
    assert [path for path in named if not (ROOT / path).exists()] == []
    assert document.name != "architecture.md" or len(named) > 30


def test_the_generated_pages_are_what_the_code_says() -> None:
    done = subprocess.run(
        [sys.executable, "docs/generate.py", "--check"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"`make docs` writes them anew: {done.stderr}{done.stdout}"


def commands_of(*group: str) -> list[str]:
    """The commands that the help of a group lists, and those of the groups among them."""
    text = run_here(*group, "--help").stdout
    names = re.findall(r"^  ([a-z-]+)", text.partition("Commands:\n")[2], re.MULTILINE)
    below = {name: commands_of(*group, name) for name in names}
    return [word for name in names for word in below[name] or [" ".join([*group, name])]]


def test_every_command_that_the_help_lists_is_documented() -> None:
    text = (ROOT / "docs" / "commands.md").read_text(encoding="utf-8")
    listed = commands_of()
    assert {"train", "recommend", "source check", "key create"} <= set(listed)
    assert [name for name in listed if f"## `recsys {name}`" not in text] == []
