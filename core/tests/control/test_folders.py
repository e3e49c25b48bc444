"""Where records and logs lie, whatever the environment lacks."""

from __future__ import annotations

import os
import pwd
from pathlib import Path

import pytest

from twister2.config.layers import config_files
from twister2.control.folders import state_folder
from twister2.spec.errors import UsageError


@pytest.fixture(autouse=True)
def bare(monkeypatch):
    for name in ("HOME", "XDG_STATE_HOME", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def nobody(monkeypatch):
    """A user whom the system does not list."""

    def unknown(uid):
        raise KeyError(uid)

    monkeypatch.setattr(pwd, "getpwuid", unknown)


def test_configured_then_xdg_then_home(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", "/somewhere/me")
    assert state_folder() == Path("/somewhere/me/.local/state/twister2")
    assert state_folder("~/jobs") == Path("/somewhere/me/jobs")
    monkeypatch.setenv("XDG_STATE_HOME", "/xdg")
    assert state_folder() == Path("/xdg/twister2")
    monkeypatch.chdir(tmp_path)
    assert state_folder("jobs") == tmp_path / "jobs"


@pytest.mark.parametrize("home", [None, "", "relative"])
def test_without_home_the_system_is_asked(monkeypatch, home):
    if home is not None:
        monkeypatch.setenv("HOME", home)
    listed = Path(pwd.getpwuid(os.getuid()).pw_dir)
    assert state_folder() == listed / ".local" / "state" / "twister2"
    assert state_folder("~/jobs") == listed / "jobs"


def test_a_relative_xdg_folder_is_passed_over(monkeypatch):
    monkeypatch.setenv("HOME", "/somewhere/me")
    monkeypatch.setenv("XDG_STATE_HOME", "state")
    assert state_folder() == Path("/somewhere/me/.local/state/twister2")


def test_a_user_without_a_home_is_told_what_to_set(nobody, monkeypatch, tmp_path):
    with pytest.raises(UsageError) as caught:
        state_folder()
    assert "XDG_STATE_HOME" in caught.value.remedy
    assert state_folder(str(tmp_path)) == tmp_path
    monkeypatch.chdir(tmp_path)
    assert config_files({}, None) == [Path("/etc/twister2/config.toml")] * Path("/etc/twister2/config.toml").is_file()


def test_a_folder_of_a_user_whom_nobody_knows_is_an_error():
    with pytest.raises(UsageError, match="no user of this system is called 'nobody-of-this-name'"):
        state_folder("~nobody-of-this-name/jobs")
