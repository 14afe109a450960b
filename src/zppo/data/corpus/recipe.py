"""A corpus as a declaration: sources, sub-datasets in tiers, caps, filters (method section 8)."""

from __future__ import annotations

import difflib
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from zppo.config import ColumnsConfig, DataConfig
from zppo.errors import ConfigError

RECIPES = Path(__file__).parent / "recipes"


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Filters(_Section):
    """Rows that are kept."""

    max_answer_chars: int = Field(ge=1)
    min_image_side: int = Field(ge=1, description="pixels")
    max_prompt_tokens: int = Field(ge=1)


class SourceRecipe(_Section):
    """A data set of Parquet files.

    `files` is a pattern of paths in it. `subset` says where a row's sub-dataset stands: `folder`,
    or the name of a column. `at_most` drops rows in which a column is larger, or missing.
    """

    name: str
    dataset: str
    licence: str
    shape: str
    files: str
    subset: str
    columns: dict[str, str] = {}
    at_most: dict[str, float] = {}

    def data_config(self, filters: Filters) -> DataConfig:
        """How rows of this source are read."""
        return DataConfig.model_validate(
            {
                "shape": self.shape,
                "columns": ColumnsConfig.model_validate({**self.columns, "kind": "-"}),
                "max_answer_chars": filters.max_answer_chars,
                "min_image_side": filters.min_image_side,
            }
        )


class SubsetRecipe(BaseModel):
    """A sub-dataset under its canonical name, with its names in each source that has it."""

    model_config = ConfigDict(extra="allow", frozen=True)
    name: str
    tier: int

    @property
    def names(self) -> Mapping[str, list[str]]:
        """Names to look for, by source."""
        return self.model_extra or {}


class CorpusRecipe(_Section):
    """The whole declaration."""

    name: str
    seed: int = Field(ge=0)
    filters: Filters
    caps: dict[int, int]
    sources: list[SourceRecipe] = Field(min_length=1)
    subsets: list[SubsetRecipe] = Field(min_length=1)

    @model_validator(mode="after")
    def _check(self) -> CorpusRecipe:
        known = [source.name for source in self.sources]
        seen: set[tuple[str, str]] = set()
        for subset in self.subsets:
            if subset.tier not in self.caps:
                raise ValueError(f"subset {subset.name}: no cap for tier {subset.tier}")
            for source, names in subset.names.items():
                if source not in known:
                    raise ValueError(f"subset {subset.name}: no source `{source}`")
                if not isinstance(names, list) or not all(isinstance(n, str) for n in names):
                    raise ValueError(f"subset {subset.name}: {source} must be a list of names")
                for name in names:
                    if (source, plain_name(name)) in seen:
                        raise ValueError(f"subset {subset.name}: {source} has `{name}` twice")
                    seen.add((source, plain_name(name)))
        return self

    def cap(self, subset: str) -> int:
        """Most questions of a sub-dataset."""
        return self.caps[next(s.tier for s in self.subsets if s.name == subset)]

    def canonical(self, source: str) -> dict[str, str]:
        """Canonical name of each sub-dataset of a source, by its plain name."""
        return {
            plain_name(name): subset.name
            for subset in self.subsets
            for name in subset.names.get(source, [])
        }

    def digest(self) -> str:
        """Identifies the recipe."""
        text = json.dumps(self.model_dump(mode="json"), sort_keys=True)
        return hashlib.sha256(text.encode("utf-8")).hexdigest()


def plain_name(name: str) -> str:
    """A name without case and punctuation: sources spell theirs in many ways."""
    return "".join(c for c in name.casefold() if c.isalnum())


def load_recipe(name: str) -> CorpusRecipe:
    """A shipped recipe, or a YAML file. Raises `ConfigError`."""
    file = Path(name)
    if file.suffix not in (".yaml", ".yml"):
        file = RECIPES / f"{name}.yaml"
    if not file.is_file():
        shipped = sorted(p.stem for p in RECIPES.glob("*.yaml"))
        near = difflib.get_close_matches(name, shipped, n=1)
        hint = f" Did you mean `{near[0]}`?" if near else ""
        raise ConfigError(f"No corpus recipe `{name}`.{hint} Shipped: {', '.join(shipped)}.")
    try:
        tree: Any = yaml.safe_load(file.read_text(encoding="utf-8"))
        return CorpusRecipe.model_validate(tree)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"Cannot read corpus recipe `{file}`: {error}") from None
    except ValidationError as error:
        lines = [
            f"  {'.'.join(map(str, e['loc'])) or 'recipe'}: "
            + e["msg"].removeprefix("Value error, ")
            for e in error.errors()
        ]
        raise ConfigError("\n".join([f"Corpus recipe `{file}`:", *lines])) from None
