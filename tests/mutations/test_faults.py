"""Every fault can be planted: `make mutations` does, and says whether its test finds it."""

import ast

import pytest
from mutations.faults import FAULTS, ROOT


@pytest.mark.parametrize("name", FAULTS)
def test_the_code_of_the_fault_and_its_test_are_there(name: str) -> None:
    fault = FAULTS[name]
    assert fault.file().is_file()
    assert fault.new not in (fault.old, "")
    file, _, test = fault.test.partition("::")
    tree = ast.parse((ROOT / "tests" / file).read_text(encoding="utf-8"))
    names = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
    assert not test or test.partition("[")[0] in names
