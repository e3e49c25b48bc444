"""The tables of the README are what the catalogue says. ``python plugins/net/tests/test_docs.py`` writes them."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from twister2_net.config import NetConfig
from twister2_net.plugin import NetPlugin

README = Path(__file__).parents[1] / "README.md"


def tables():
    catalog = NetPlugin().ops_create(config=NetConfig()).catalog()
    operators = ["| operator | what it does | inputs | options |", "| --- | --- | --- | --- |"]
    options: dict[tuple[str, str], list[str]] = {}
    for name, info in sorted(catalog.items()):
        assert info.modes == {"batch", "stream"} or "in batch mode" in info.summary
        names = ", ".join(f"`{option}`" for option in info.options)
        operators.append(f"| `{name}` | {info.summary} | {info.inputs or 'any'} | {names} |")
        for option, declared in info.options.items():
            options.setdefault((option, declared.help), []).append(name)
    lines = ["| option | of | what it is |", "| --- | --- | --- |"]
    for (option, text), of in sorted(options.items()):
        lines.append(f"| `{option}` | {', '.join(of)} | {text} |")
    return {"operators": "\n".join(operators), "options": "\n".join(lines)}


def filled(text):
    for name, table in tables().items():
        pattern = rf"(<!-- {name}: [^\n]* -->\n).*?(<!-- end of {name} -->)"
        text, count = re.subn(
            pattern, lambda match, table=table: f"{match[1]}{table}\n\n{match[2]}", text, flags=re.DOTALL
        )
        assert count == 1, f"the README has no place for the table of {name}"
    return text


def test_the_tables_of_the_readme_are_the_catalogue():
    text = README.read_text(encoding="utf-8")
    assert text == filled(text), f"run python {Path(__file__).name}"


GUIDE = Path(__file__).parents[3] / "docs/guide"


def test_the_guide_names_every_call_operator_and_method():
    import twister2_net as net

    text = (GUIDE / "operators.md").read_text(encoding="utf-8")
    graphs = (GUIDE / "taskgraph.md").read_text(encoding="utf-8")
    calls = set(dir(net)) - {"Mark", "NetOperator", "operator"}
    assert not [name for name in calls if f"`{name}(env" not in text]
    catalog = NetPlugin().ops_create(config=NetConfig()).catalog()
    assert not [name for name in catalog if f"`{name}`" not in text]
    assert not [name for name in catalog if f"`{name}`" not in graphs]
    methods = [name for name in vars(net.NetOperator) if not name.startswith("_") and name != "close"]
    assert not [name for name in methods if not re.search(rf"`(op\.)?{name}\b|, `{name}\(|op\.{name}\b", text)]


def test_every_option_of_the_configuration_is_in_the_readme():
    import attrs

    text = README.read_text(encoding="utf-8")
    for field in attrs.fields(NetConfig):
        assert f"`ops.net.{field.name}`" in text


SOURCES = Path(__file__).parents[1] / "src/twister2_net"
LAYERS = [{"calls"}, {"plugin"}, {"catalog"}, {"operators"}, {"selectors"}, {"exchange"}, {"spilling"}, {"combining"}]


def test_where_to_put_things():
    """Paths of the README exist, the text of each package names its modules, and imports point one way."""
    section = README.read_text(encoding="utf-8").split("## Where to put things")[1]
    for row in section.split("| --- | --- |\n")[1].split("\n\n")[0].splitlines():
        for name in re.findall(r"`([^`]+)`", row.split("|")[2]):
            assert (SOURCES / name).exists(), name
    packages = {folder.parent.name for folder in SOURCES.glob("*/__init__.py")}
    assert packages <= set().union(*LAYERS)
    for package in packages:
        modules = {module.stem for module in (SOURCES / package).glob("*.py")} - {"__init__"}
        text = ast.get_docstring(ast.parse((SOURCES / package / "__init__.py").read_text(encoding="utf-8")))
        assert modules == set(re.findall(r"``([a-z_]+)``", text)) & modules, package
    for level, layer in enumerate(LAYERS):
        above = set().union(*LAYERS[:level])
        for package in layer & packages:
            for module in (SOURCES / package).glob("*.py"):
                for node in ast.parse(module.read_text(encoding="utf-8")).body:
                    if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("twister2_net."):
                        assert node.module.split(".")[1] not in above, f"{module} imports {node.module}"


if __name__ == "__main__":
    README.write_text(filled(README.read_text(encoding="utf-8")), encoding="utf-8")
