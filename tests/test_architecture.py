"""The rules of the house that a machine can check: who imports whom, one door a library, sizes, names, what loads."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROOMS = ("recsys", "jobs", "api", "migrations", "benchmarks")
FILES = sorted(path for room in ROOMS for path in (ROOT / room).rglob("*.py"))
SOURCES = {path.relative_to(ROOT).as_posix(): ast.parse(path.read_text(encoding="utf-8")) for path in FILES}

# library -> the files that may import it; a trailing slash means the whole folder, a star the beginnings of names
DOORS: dict[str, tuple[str, ...]] = {
    "sqlalchemy": ("recsys/store/", "recsys/source/", "migrations/", "benchmarks/"),
    "alembic": ("recsys/store/", "migrations/"),
    "connectorx": ("recsys/source/dialects/", "benchmarks/"),
    "faiss": ("recsys/index/", "benchmarks/"),
    "torch": ("recsys/models/", "benchmarks/"),
    "torchrec": ("recsys/models/", "benchmarks/"),
    "fbgemm_gpu": ("recsys/models/",),
    "onnxruntime": ("recsys/models/onnx_encoder.py",),
    "onnx": ("recsys/models/",),
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
    {"imports", "process", "progress", "spelling"},
    {"config"},
    {"data"},
    {"store", "index", "guards"},
    {"source", "sample", "related"},
    {"models"},
    {"bundle"},
    {"serving"},
    {"training", "audience"},
    {"library"},
)
# Every key of the configuration in one place, and every command with its options.
LONG = {"recsys/config/settings.py", "jobs/cli.py"}
FORBIDDEN_NAMES = {"utils", "util", "helpers", "helper", "common", "base", "manager", "managers", "core", "misc"}


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
    assert {"recsys/config/settings.py", "jobs/cli.py", "recsys/models/mf/model.py"} <= set(SOURCES)
    assert len(SOURCES) > 30


@pytest.mark.parametrize("file", SOURCES)
def test_imports_flow_one_way(file: str) -> None:
    room = file.partition("/")[0]
    for module, line in imports_of(SOURCES[file]):
        imported = module.partition(".")[0]
        assert imported not in ROOMS or imported in ALLOWED_ROOMS[room], f"{file}:{line} imports {module}"
        assert imported != "tests", f"{file}:{line} imports {module}"


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
    if file not in SOURCES:
        return {f"recsys.{room}"}  # a room of one file
    named = re.search(r"Other rooms import((?:`[^`]+`|[^.`])+)\.", ast.get_docstring(SOURCES[file]) or "")
    assert named, f'the docstring of {file} does not say which files "Other rooms import"'
    return {f"recsys.{room}.{name}" for name in re.findall(r"`([^`]+)`", named[1])}


def test_every_room_has_its_layer_and_names_files_that_exist() -> None:
    rooms = {room for file in SOURCES if (room := room_of(module_of(file)))}
    assert rooms == set().union(*LAYERS)
    for room in sorted(rooms):
        missing = [name for name in open_to_others(room) if f"{name.replace('.', '/')}.py" not in SOURCES]
        assert not missing, f"recsys/{room}/__init__.py names {missing}"


@pytest.mark.parametrize("file", [file for file in SOURCES if not file.startswith(("benchmarks/", "migrations/"))])
def test_rooms_import_from_lower_layers_and_only_what_is_open_to_them(file: str) -> None:
    layer = {room: number for number, rooms in enumerate(LAYERS) for room in rooms}
    mine = room_of(module_of(file))
    for module, line in imports_of(SOURCES[file]):
        theirs = room_of(module)
        if theirs is None or theirs == mine or f"{module.replace('.', '/')}.py" not in SOURCES:
            continue  # of `from recsys.data import times` the second of both names counts
        assert module in open_to_others(theirs), f"{file}:{line}: {module} is not among what other rooms import"
        lower = mine is None or layer[theirs] < layer[mine]
        assert lower, f"{file}:{line}: {mine} imports {theirs}, which does not lie below it"


@pytest.mark.parametrize("file", SOURCES)
def test_every_library_comes_in_by_its_door(file: str) -> None:
    for module, line in imports_of(SOURCES[file]):
        library = module.partition(".")[0]
        if library in DOORS:
            allowed = ", ".join(DOORS[library]) or "nobody"
            assert may_import(file, DOORS[library]), f"{file}:{line} imports {library}; that may: {allowed}"


def test_the_only_tables_of_embeddings_are_torchrec_s() -> None:
    makers = dict[str, set[str]]()
    for file, tree in ((file, tree) for file, tree in SOURCES.items() if file.startswith("recsys/")):
        called = {ast.unparse(node.func).rpartition(".")[2] for node in ast.walk(tree) if isinstance(node, ast.Call)}
        if found := {name for name in called if name.startswith("Embedding") or "EmbeddingBagCollection" in name}:
            makers[file] = found
    assert makers == {
        "recsys/models/embedding_tables.py": {"FusedEmbeddingBagCollection", "EmbeddingBagConfig"},
        "recsys/models/distributed/sharded.py": {"EmbeddingShardingPlanner"},
    }
    towers = ("recsys/models/two_tower/towers.py", "recsys/models/sequence/trainer.py")
    assert all("make_tables" in ast.dump(SOURCES[file]) for file in towers)


@pytest.mark.parametrize("file", SOURCES)
def test_only_one_module_talks_between_processes(file: str) -> None:
    for module, line in imports_of(SOURCES[file]):
        talks = module.startswith(("torchrec.distributed", "torch.distributed"))
        told = module.startswith("torch.distributed.elastic")  # torchrun's own side
        assert not talks or told or file == "recsys/models/distributed/sharded.py", f"{file}:{line} imports {module}"


@pytest.mark.parametrize("file", SOURCES)
def test_nothing_is_imported_inside_a_function(file: str) -> None:
    for node in ast.walk(SOURCES[file]):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            inside = [n.lineno for n in ast.walk(node) if isinstance(n, ast.Import | ast.ImportFrom)]
            assert not inside, f"{file}: imports inside {node.name}, lines {inside}"


def test_no_module_imports_itself_by_a_detour() -> None:
    modules = {module_of(file): file for file in SOURCES}
    edges = {
        module: {name for name, _ in imports_of(SOURCES[file]) if name in modules and name != module}
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


@pytest.mark.parametrize("file", [*SOURCES, *(p.relative_to(ROOT).as_posix() for p in (ROOT / "tests").rglob("*.py"))])
def test_no_file_outgrows_four_hundred_lines(file: str) -> None:
    lines = len((ROOT / file).read_text(encoding="utf-8").splitlines())
    assert lines <= 400 or file in LONG, f"{file} has {lines} lines"


def test_no_file_has_a_name_that_says_nothing() -> None:
    names = {file: set(Path(file).with_suffix("").parts) & FORBIDDEN_NAMES for file in SOURCES}
    assert {file: found for file, found in names.items() if found} == {}


@pytest.mark.parametrize("file", SOURCES)
def test_every_module_says_what_it_is_for(file: str) -> None:
    assert ast.get_docstring(SOURCES[file]) or file.startswith("migrations/") or not SOURCES[file].body, file


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
