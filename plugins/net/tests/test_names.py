"""What the package gives by name."""

from __future__ import annotations

import builtins
import sys

import pytest


@pytest.mark.parametrize("package", ["twister2_net", "twister2_harp"])
def test_import_of_everything_gives_public_names_and_hides_none_of_python(package):
    pytest.importorskip(package)
    names: dict[str, object] = {}
    exec(f"from {package} import *", names)
    del names["__builtins__"]
    module = sys.modules[package]
    assert sorted(names) == sorted(module.__all__)
    assert not [name for name in names if name.startswith("_") or name in sys.stdlib_module_names]
    assert not [name for name in names if hasattr(builtins, name)]
    assert all(value is getattr(module, name) for name, value in names.items())
    ours = [name for name, value in names.items() if getattr(value, "__module__", package).startswith("twister2")]
    assert len(ours) >= len(names) - 1, "IN_PLACE may be a plain value"


def test_every_name_is_there_and_listed():
    import twister2_net as net

    assert set(net.__all__) == set(dir(net)) - {"operator", "zip"}
    for name in dir(net):
        assert getattr(net, name).__name__ == name
    with pytest.raises(AttributeError, match="allreduced"):
        _ = net.allreduced
