"""What a build will read, known before it reads anything: the dry run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from zppo.config import ColumnsConfig, DataConfig
from zppo.data.corpus.recipe import CorpusRecipe, SourceRecipe, plain_name
from zppo.data.corpus.shards import FolderStore, HubStore, Shard, Store
from zppo.data.shapes import columns_of
from zppo.errors import DataError


@dataclass(frozen=True, slots=True)
class Work:
    """A file to read."""

    source: SourceRecipe
    shard: Shard

    @property
    def folder(self) -> str:
        """The folder it lies in: the sub-dataset, where a source has one a folder."""
        return self.shard.path.rpartition("/")[0].rpartition("/")[2]

    @property
    def name(self) -> str:
        return f"{self.source.name}/{self.shard.path}"


@dataclass(frozen=True, slots=True)
class Plan:
    """The files in the order they are read, and which source gives each sub-dataset.

    `missing` names sub-datasets of the recipe that a source has no folder for, `unused` folders
    that the recipe does not name. For a source that names sub-datasets in a column neither can be
    known before its rows are read; the manifest counts them.
    """

    recipe: CorpusRecipe
    stores: Mapping[str, Store]
    work: list[Work]
    canonical: Mapping[str, Mapping[str, str]]
    owner: Mapping[str, str]
    missing: list[str]
    unused: list[str]

    def reading(self, source: SourceRecipe) -> tuple[DataConfig, ColumnsConfig]:
        """How the rows of a source are read."""
        config = source.data_config(self.recipe.filters)
        return config, columns_of(config)

    @property
    def bytes(self) -> int:
        """Size of the files to read, most of it images of rows that are not kept."""
        return sum(work.shard.size for work in self.work)

    def summary(self) -> str:
        """What would be read and what would come of it, for people."""
        lines = [
            f"{self.recipe.name}: {len(self.recipe.subsets)} sub-datasets, seed {self.recipe.seed}"
        ]
        for source in self.recipe.sources:
            mine = [w for w in self.work if w.source.name == source.name]
            size = sum(w.shard.size for w in mine) / 2**30
            lines += [
                f"  {source.name}: {self.stores[source.name].where}",
                f"    {len(mine)} files, {size:.1f} GiB to read; licence: {source.licence}",
            ]
        most = sum(self.recipe.cap(s.name) for s in self.recipe.subsets if s.name in self.owner)
        lines.append(f"  at most {most:,} questions, by sub-dataset (cap, source):")
        for subset in self.recipe.subsets:
            owner = self.owner.get(subset.name, "MISSING")
            lines.append(f"    {subset.name:<20} {self.recipe.cap(subset.name):>6}  {owner}")
        if self.missing:
            lines.append(f"  not found: {', '.join(self.missing)}")
        if self.unused:
            lines.append(f"  not used: {', '.join(self.unused)}")
        return "\n".join(lines)


def open_stores(recipe: CorpusRecipe, local: Mapping[str, Path]) -> dict[str, Store]:
    """Each source: its folder in `local`, by name, or else the hub. Raises `DataError`."""
    if unknown := sorted(set(local) - {s.name for s in recipe.sources}):
        known = ", ".join(s.name for s in recipe.sources)
        raise DataError(f"The recipe has no source `{unknown[0]}`; its sources: {known}.")
    return {
        s.name: FolderStore(local[s.name]) if s.name in local else HubStore(s.dataset)
        for s in recipe.sources
    }


def make_plan(
    recipe: CorpusRecipe, stores: Mapping[str, Store], allow_missing: bool = False
) -> Plan:
    """Look at the names of files. Raises `DataError` when a source has none, or lacks a folder for
    one of its sub-datasets unless `allow_missing`."""
    work: list[Work] = []
    owner: dict[str, str] = {}
    missing: list[str] = []
    unused: list[str] = []
    canonical = {s.name: recipe.canonical(s.name) for s in recipe.sources}
    for source in recipe.sources:
        found = [Work(source, shard) for shard in stores[source.name].shards(source.files)]
        if not found:
            raise DataError(f"{stores[source.name].where}: no file matches `{source.files}`.")
        names = canonical[source.name]
        if source.subset == "folder":
            present = {plain_name(w.folder): w.folder for w in found}
            unused += [f"{source.name}/{f}" for p, f in sorted(present.items()) if p not in names]
            found = [w for w in found if plain_name(w.folder) in names]
            here = {names[p] for p in present if p in names}
            missing += [
                f"{source.name}/{s.name}"
                for s in recipe.subsets
                if source.name in s.names and s.name not in here
            ]
        else:
            here = set(names.values())
        for name in here:
            owner.setdefault(name, source.name)
        work += found
    if missing and not allow_missing:
        raise DataError(
            f"No folder for {', '.join(missing)}. Folders not in the recipe: "
            f"{', '.join(unused) or 'none'}. If one is another spelling, add it to a copy of the "
            "recipe; to build without them, --allow-missing."
        )
    return Plan(recipe, stores, work, canonical, owner, missing, unused)
