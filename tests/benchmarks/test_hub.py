"""Models of the hub that cannot be had are named at once."""

import os
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from benchmarks import hub
from benchmarks.hub import check_models, named_in

SUITE = 'model = ["a/b", "bundled"]\n[[method]]\nname = "eap"\nmodel = "c/d"\n'


def test_the_models_of_a_suite_are_found_wherever_it_names_them(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(SUITE)
    assert named_in(str(file), "model") == ["a/b", "bundled", "c/d"]
    assert named_in("paper", "model") == ["openai-community/gpt2"]
    file.write_text("model = 3\nmethod = [4]")
    assert named_in(str(file), "model") == named_in("no-such", "model") == []


def test_folders_and_our_own_models_are_not_looked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a/b").mkdir(parents=True)
    check_models(["bundled", "tiny-llama", "./no", "~/no", "/no", "a/b", "a/b/c/d"], ["ioi"])


@pytest.mark.parametrize("name", ["no-such/model", "no such model", "a..b/c"])
def test_offline_a_model_that_is_not_on_disk_is_an_error(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ValueError, match=f"model '{name}'"):
        check_models([name], ["ioi"])


def test_a_hub_that_cannot_be_reached_is_not_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    monkeypatch.setattr(hub, "getproxies", dict)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(ValueError, match=r"nor to be downloaded: http://127\.0\.0\.1:9 cannot"):
        check_models(["no-such/model"], ["ioi"])
    assert os.environ["HF_HUB_OFFLINE"] == "1"


def test_a_name_that_is_looked_up_forever_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "SECONDS", 0.05)
    monkeypatch.setattr(hub, "getproxies", dict)
    connection = SimpleNamespace(close=lambda: None)
    slow = lambda *_, **__: time.sleep(1) or connection  # noqa: E731
    monkeypatch.setattr(hub.socket, "create_connection", slow)
    started = time.monotonic()
    assert not hub._can_be_reached("https://huggingface.co")
    assert time.monotonic() - started < 0.9


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [["run", "mine.toml"], ["compare", "--task", "ioi"]])
def test_a_command_says_so_before_torch_is_imported(arguments: list[str], tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(SUITE)
    model = ["--model", "no-such/model"]
    code = (
        "import sys; from benchmarks.cli import main\n"
        "try: main(sys.argv[1:])\n"
        "finally: assert 'torch' not in sys.modules"
    )
    command = [sys.executable, "-c", code, *arguments, *model]
    root = str(Path(__file__).parents[2])
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONPATH": root}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr == (
        "Error: model 'no-such/model' is not on disk nor to be downloaded: HF_HUB_OFFLINE is set\n"
    )
