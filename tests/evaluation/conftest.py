"""One set of made data for all tests here, and a tiny VLM on the disk."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import tiny
from tests.evaluation import fixtures
from zppo.lab import models


@pytest.fixture(scope="session")
def data_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fixtures.build(tmp_path_factory.mktemp("benchmarks"))


@pytest.fixture(scope="session")
def tiny_vlm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tiny vision-language model."""
    folder = tmp_path_factory.mktemp("tiny") / "vlm"
    loaded = tiny.loaded("vlm")
    models.save(loaded.model, loaded.tokenizer, folder)
    return folder
