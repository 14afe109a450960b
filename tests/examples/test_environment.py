"""The scripts that make environments empty a folder first; they empty none but their own."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "examples/vllm_cpu/serve.py"


def test_a_folder_with_other_things_is_left_alone(tmp_path: Path) -> None:
    spec = importlib.util.spec_from_file_location("serve", SCRIPT)
    assert spec is not None and spec.loader is not None
    serve = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(serve)
    serve.require_own(tmp_path / "new")
    serve.require_own(tmp_path)
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(SystemExit, match="holds other things"):
        serve.make_environment(tmp_path)
    assert (tmp_path / "thesis.tex").exists()
    (tmp_path / "pyvenv.cfg").touch()
    serve.require_own(tmp_path)
