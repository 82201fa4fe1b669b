"""Settings: where they come from, which one wins, what a wrong one says."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.config import Settings, home, load_settings
from harness.errors import UsageError


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    (tmp_path / "home").mkdir()
    return {"MARGINALIA_HOME": str(tmp_path / "home")}


def test_options_win_over_environment_over_the_folder_over_the_user(tmp_path: Path, environment: dict[str, str]) -> None:
    lines = ['model = "a"', "workers = 1", "timeout = 1", "threads = 1"]
    (tmp_path / "home/config.toml").write_text("\n".join(lines))
    (tmp_path / "marginalia.toml").write_text("workers = 2\ntimeout = 2\nthreads = 2")
    environment |= {"MARGINALIA_TIMEOUT": "3", "MARGINALIA_THREADS": "3"}
    found = load_settings({"threads": 4, "workers": None}, environment, tmp_path)
    assert found == Settings(model="a", workers=2, timeout=3.0, threads=4)


def test_ollamas_own_variable_counts_unless_ours_is_set(tmp_path: Path, environment: dict[str, str]) -> None:
    environment["OLLAMA_HOST"] = "one:1"
    assert load_settings({}, environment, tmp_path).ollama_host == "one:1"
    environment["MARGINALIA_OLLAMA_HOST"] = "two:2"
    assert load_settings({}, environment, tmp_path).ollama_host == "two:2"


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("workers = 'x'", "marginalia.toml: workers = 'x' is not a whole number of 0 or more; correct or remove it"),
        ("workers = -1", "is not a whole number of 0 or more"),
        ("timeout = 'soon'", "is not a number of 0 or more"),
        ("offline = 'maybe'", "is not true or false"),
        ("colour = 1", "unknown setting 'colour'; known: chat_model, "),
        ("= 1", "cannot be read as TOML"),
    ],
)
def test_a_wrong_setting_is_one_line_that_names_its_file(
    tmp_path: Path, environment: dict[str, str], line: str, said: str
) -> None:
    (tmp_path / "marginalia.toml").write_text(line)
    with pytest.raises(UsageError) as caught:
        load_settings({}, environment, tmp_path)
    assert said in str(caught.value)
    assert str(tmp_path / "marginalia.toml") in str(caught.value)


@pytest.mark.parametrize(("text", "value"), [("1", True), ("off", False), ("TRUE", True), ("", False)])
def test_switches_in_the_environment(tmp_path: Path, environment: dict[str, str], text: str, value: bool) -> None:
    assert load_settings({}, environment | {"MARGINALIA_OFFLINE": text}, tmp_path).offline is value


def test_the_data_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setenv("HOME", "/home/ada")
    assert home({"MARGINALIA_HOME": "~/mine"}) == Path("/home/ada/mine")
    assert home({"MARGINALIA_HOME": "~nobody-is-called-so/x"}) == Path("~nobody-is-called-so/x")
    assert home({"XDG_DATA_HOME": "/data"}) == Path("/data/marginalia")
    assert home({}) == Path("/home/ada/.local/share/marginalia")
