"""The rules of the house that a machine can check: who imports whom, one door a library, sizes, names, what loads."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[1]
ROOMS = ("recsys", "jobs", "api", "migrations", "benchmarks")

# library -> the files that may import it; a trailing slash means the whole folder, a star the beginnings of names
DOORS: dict[str, tuple[str, ...]] = {
    "sqlalchemy": ("recsys/store/", "recsys/source/", "migrations/", "benchmarks/"),
    "alembic": ("recsys/store/", "migrations/"),
    "connectorx": ("recsys/source/dialects/", "benchmarks/"),
    "faiss": ("recsys/index/", "benchmarks/"),
    "torch": ("recsys/models/", "recsys/content/", "recsys/propensity/", "benchmarks/"),
    "torchrec": ("recsys/models/", "benchmarks/"),
    "fbgemm_gpu": ("recsys/models/",),
    "onnxruntime": ("recsys/onnx_session.py",),
    "onnx": ("recsys/models/", "recsys/content/export.py"),
    "safetensors": ("recsys/content/weights.py",),
    "tokenizers": ("recsys/content/text_network.py",),
    "PIL": ("recsys/content/pictures.py",),
    "onnxscript": (),
    "apscheduler": ("jobs/schedule/",),
    "optuna": ("recsys/training/", "jobs/tune*"),
    "typer": ("jobs/cli.py",),
    "rich": ("jobs/", "benchmarks/"),
    "fastapi": ("api/",),
    "starlette": ("api/",),
    "pickle": (),
    "joblib": (),
}
ALLOWED_ROOMS = {  # which rooms a room may import
    "recsys": {"recsys", "migrations"},  # the store finds its migrations by their package
    "jobs": {"jobs", "recsys"},
    "api": {"api", "recsys"},
    "migrations": {"migrations", "recsys"},
    "benchmarks": {"benchmarks", "recsys", "jobs", "api"},
}
# The rooms of the engine from the lowest to the highest: a room imports from lower layers only.
LAYERS = (
    {"errors"},
    {"imports", "onnx_session", "outbound", "process", "progress", "spelling"},
    {"config"},
    {"data"},
    {"experiments"},
    {"store", "index", "guards", "content"},
    {"source", "sample", "related"},
    {"models"},
    {"propensity"},
    {"reviews"},
    {"bundle"},
    {"serving"},
    {"training", "audience"},
    {"campaigns"},
    {"library"},
)
# Every key of the configuration in one place, and every command with its options.
LONG = {"recsys/config/settings.py", "jobs/cli.py"}
FORBIDDEN_NAMES = {"utils", "util", "helpers", "helper", "common", "base", "manager", "managers", "core", "misc"}


@cache
def sources() -> dict[str, ast.Module]:
    """The code that the rules are about: file -> its tree."""
    files = sorted(path for room in ROOMS for path in (ROOT / room).rglob("*.py"))
    return {path.relative_to(ROOT).as_posix(): ast.parse(path.read_text(encoding="utf-8")) for path in files}


@cache
def all_imports() -> list[tuple[str, str, int]]:
    """Every import of every file: (file, module, line)."""
    return [(file, module, line) for file, tree in sources().items() for module, line in imports_of(tree)]


def imports_of(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """Every module that is imported, with the line; `from recsys import bundle` counts as recsys.bundle.bundle too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"relative import in line {node.lineno}"
            yield str(node.module), node.lineno
            yield from ((f"{node.module}.{alias.name}", node.lineno) for alias in node.names)


def may_import(file: str, doors: tuple[str, ...]) -> bool:
    return any(
        file.startswith(door)
        if door.endswith("/")
        else file.startswith(door[:-1])
        if door.endswith("*")
        else file == door
        for door in doors
    )


def test_the_rooms_are_there_to_be_checked() -> None:
    assert {"recsys/config/settings.py", "jobs/cli.py", "recsys/models/mf/model.py"} <= set(sources())
    assert len(sources()) > 30


def test_imports_flow_one_way() -> None:
    wrong = []
    for file, module, line in all_imports():
        imported, room = module.partition(".")[0], file.partition("/")[0]
        if imported == "tests" or (imported in ROOMS and imported not in ALLOWED_ROOMS[room]):
            wrong.append(f"{file}:{line} imports {module}")
    assert wrong == []


def room_of(module: str) -> str | None:
    """The room of the engine that a module lies in: recsys.data.times -> data. None: it is no part of the engine."""
    package, _, rest = module.partition(".")
    return rest.partition(".")[0] or None if package == "recsys" else None


def module_of(file: str) -> str:
    """recsys/data/times.py -> recsys.data.times; of a package the package itself."""
    return file.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def open_to_others(room: str) -> set[str]:
    """The modules that the docstring of a room names after "Other rooms import"."""
    file = f"recsys/{room}/__init__.py"
    if file not in sources():
        return {f"recsys.{room}"}  # a room of one file
    named = re.search(r"Other rooms import((?:`[^`]+`|[^.`])+)\.", ast.get_docstring(sources()[file]) or "")
    assert named, f'the docstring of {file} does not say which files "Other rooms import"'
    return {f"recsys.{room}.{name}" for name in re.findall(r"`([^`]+)`", named[1])}


def test_every_room_has_its_layer_and_names_files_that_exist() -> None:
    rooms = {room for file in sources() if (room := room_of(module_of(file)))}
    assert rooms == set().union(*LAYERS)
    for room in sorted(rooms):
        missing = [name for name in open_to_others(room) if f"{name.replace('.', '/')}.py" not in sources()]
        assert not missing, f"recsys/{room}/__init__.py names {missing}"


def test_rooms_import_from_lower_layers_and_only_what_is_open_to_them() -> None:
    layer = {room: number for number, rooms in enumerate(LAYERS) for room in rooms}
    wrong = []
    for file, module, line in all_imports():
        mine, theirs = room_of(module_of(file)), room_of(module)
        if theirs in (None, mine) or f"{module.replace('.', '/')}.py" not in sources():
            continue  # of `from recsys.data import times` the second of both names counts
        if file.startswith(("benchmarks/", "migrations/")):
            continue
        if module not in open_to_others(theirs):
            wrong.append(f"{file}:{line}: {module} is not among what other rooms import")
        if mine is not None and layer[theirs] >= layer[mine]:
            wrong.append(f"{file}:{line}: {mine} imports {theirs}, which does not lie below it")
    assert wrong == []


def test_every_library_comes_in_by_its_door() -> None:
    wrong = []
    for file, module, line in all_imports():
        library = module.partition(".")[0]
        if library in DOORS and not may_import(file, DOORS[library]):
            allowed = ", ".join(DOORS[library]) or "nobody"
            wrong.append(f"{file}:{line} imports {library}; that may: {allowed}")
    assert wrong == []


def test_the_only_tables_of_embeddings_are_torchrec_s() -> None:
    makers = dict[str, set[str]]()
    for file, tree in ((file, tree) for file, tree in sources().items() if file.startswith("recsys/")):
        called = {ast.unparse(node.func).rpartition(".")[2] for node in ast.walk(tree) if isinstance(node, ast.Call)}
        if found := {name for name in called if name.startswith("Embedding") or "EmbeddingBagCollection" in name}:
            makers[file] = found
    assert makers == {
        "recsys/models/embedding_tables.py": {"FusedEmbeddingBagCollection", "EmbeddingBagConfig"},
        "recsys/models/distributed/sharded.py": {"EmbeddingShardingPlanner"},
    }
    towers = ("recsys/models/two_tower/towers.py", "recsys/models/sequence/trainer.py")
    assert all("make_tables" in ast.dump(sources()[file]) for file in towers)


def test_only_one_module_talks_between_processes() -> None:
    talking = {
        (file, module)
        for file, module, _ in all_imports()
        if module.startswith(("torchrec.distributed", "torch.distributed"))
        and not module.startswith("torch.distributed.elastic")  # torchrun's own side
    }
    assert {file for file, _ in talking} == {"recsys/models/distributed/sharded.py"}, talking


def test_nothing_is_imported_inside_a_function() -> None:
    wrong = []
    for file, tree in sources().items():
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                inside = [n.lineno for n in ast.walk(node) if isinstance(n, ast.Import | ast.ImportFrom)]
                wrong += [f"{file}:{line}: an import inside {node.name}" for line in inside]
    assert wrong == []


def test_no_module_imports_itself_by_a_detour() -> None:
    modules = {module_of(file): file for file in sources()}
    edges = {
        module: {name for name, _ in imports_of(sources()[file]) if name in modules and name != module}
        for module, file in modules.items()
    }
    done: set[str] = set()

    def visit(module: str, path: list[str]) -> None:
        assert module not in path, f"a cycle: {' -> '.join([*path[path.index(module) :], module])}"
        if module not in done:
            for imported in sorted(edges[module]):
                visit(imported, [*path, module])
            done.add(module)

    for module in sorted(modules):
        visit(module, [])


def test_no_file_outgrows_four_hundred_lines() -> None:
    files = [*sources(), *(path.relative_to(ROOT).as_posix() for path in (ROOT / "tests").rglob("*.py"))]
    lines = {file: len((ROOT / file).read_text(encoding="utf-8").splitlines()) for file in files}
    assert {file: count for file, count in lines.items() if count > 400 and file not in LONG} == {}


def test_no_file_has_a_name_that_says_nothing() -> None:
    names = {file: set(Path(file).with_suffix("").parts) & FORBIDDEN_NAMES for file in sources()}
    assert {file: found for file, found in names.items() if found} == {}


def test_every_module_says_what_it_is_for() -> None:
    silent = [file for file, tree in sources().items() if tree.body and not ast.get_docstring(tree)]
    assert [file for file in silent if not file.startswith("migrations/")] == []


def loaded_by(program: str) -> set[str]:
    """The top-level modules that a fresh process has loaded after running the program."""
    report = "\nimport sys\nprint('\\n' + ' '.join({name.partition('.')[0] for name in sys.modules}))"
    done = subprocess.run([sys.executable, "-c", program + report], capture_output=True, text=True, check=True)
    return set(done.stdout.splitlines()[-1].split())


def test_the_help_of_the_command_line_loads_none_of_the_heavy_libraries() -> None:
    program = """
import sys
sys.argv = ["recsys", "--help"]
try:
    from jobs.cli import main
    main()
except SystemExit:
    pass
"""
    loaded = loaded_by(program)
    assert "typer" in loaded
    heavy = {
        "torch",
        "torchrec",
        "fbgemm_gpu",
        "faiss",
        "onnx",
        "onnxruntime",
        "numpy",
        "scipy",
        "pyarrow",
        "polars",
        "sqlalchemy",
        "alembic",
        "optuna",
    }
    assert loaded & heavy == set()


def test_serving_loads_neither_torch_nor_what_comes_with_it() -> None:
    loaded = loaded_by("import recsys.serving.recommender, recsys.bundle.bundle, recsys.training.evaluation")
    assert {"faiss", "onnxruntime"} <= loaded
    assert loaded & {"torch", "torchrec", "fbgemm_gpu", "onnx", "onnxscript", "apscheduler", "sqlalchemy"} == set()


def test_commands_that_ask_load_nothing_that_reads_a_source() -> None:
    loaded = loaded_by("import jobs.answers, jobs.commands, jobs.placements")
    assert "faiss" in loaded
    assert loaded & {"torch", "torchrec", "optuna", "polars", "connectorx", "fastapi", "alembic"} == set()


def test_the_service_loads_neither_torch_nor_the_scheduler() -> None:
    loaded = loaded_by("import api.app")
    assert {"fastapi", "faiss"} <= loaded
    assert (
        loaded & {"torch", "torchrec", "fbgemm_gpu", "onnx", "onnxscript", "apscheduler", "optuna", "alembic"} == set()
    )
