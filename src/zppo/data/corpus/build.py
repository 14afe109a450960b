"""`zppo data build`: a corpus from its recipe, one file of a source after the other.

    OUT/train.jsonl     a question a line, sub-datasets in the order of the recipe
    OUT/images/         by content
    OUT/manifest.json   the recipe, revisions, licences, and how many rows each filter dropped
    OUT/.build.json     after each file: what is kept so far, so that a killed build goes on

The disk holds what is kept and one pass's replaced images, never a copy of the sources.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from zppo.data.builder import QuestionBuilder, content_id
from zppo.data.content import content_name
from zppo.data.corpus.plan import Plan, Work
from zppo.data.corpus.recipe import CorpusRecipe, SourceRecipe, plain_name
from zppo.data.corpus.selection import DUPLICATE, OVER_CAP, Kept, Selection, key_for
from zppo.data.corpus.shards import parquet, rows_of
from zppo.data.files import write_atomic
from zppo.data.media import open_image
from zppo.data.overlap import normal_text
from zppo.data.probes import digest
from zppo.data.raw import RawRow, require_columns
from zppo.data.skips import RowProblem
from zppo.errors import DataError
from zppo.types import Question

STATE, ROWS, MANIFEST, IMAGES = ".build.json", "train.jsonl", "manifest.json", "images"
NOT_LISTED, OUTRANKED, TOO_EASY = "not in the recipe", "another source wins", "above its limit"

Length = Callable[[Question], int]


class CorpusBuild:
    """One build into one folder. Killed at any moment, it goes on with the file it was in."""

    def __init__(
        self, recipe: CorpusRecipe, plan: Plan, out: Path, length: Length | None = None
    ) -> None:
        """`length` counts the tokens of a question's plain prompt; without it no row is dropped
        for its length. Raises `DataError` when `out` holds another corpus."""
        self.recipe, self.plan, self.out, self.length = recipe, plan, out, length
        self.selection = Selection({s.name: recipe.cap(s.name) for s in recipe.subsets})
        self.done: list[str] = []
        self.identity = {
            "recipe_sha256": recipe.digest(),
            "sources": {s.name: plan.stores[s.name].where for s in recipe.sources},
            "max_prompt_tokens": recipe.filters.max_prompt_tokens if length else None,
        }
        self._stale: set[str] = set()
        self._builders = {
            s.name: QuestionBuilder(config, columns, plan.stores[s.name].where, Path("/"))
            for s in recipe.sources
            for config, columns in [plan.reading(s)]
        }
        self._resume()

    def run(self, progress: Callable[[str, int, int], None] = lambda what, n, total: None) -> None:
        """Read every file that is left, then write the corpus. Raises `DataError`."""
        self._save()  # from now on the folder is known as this build's
        for number, work in enumerate(self.plan.work, start=1):
            if work.name in self.done:
                continue
            progress(work.name, number, len(self.plan.work))
            self._read(work)
            self.done.append(work.name)
            self._save()
        self._finish()

    # -- one file ---------------------------------------------------------------------------------

    def _read(self, work: Work) -> None:
        source, store = work.source, self.plan.stores[work.source.name]
        _, columns = self.plan.reading(source)
        extra = [*source.at_most, *([] if source.subset == "folder" else [source.subset])]
        with parquet(store, work.shard.path) as file:
            names = file.schema_arrow.names
            where = f"{store.where}, {work.shard.path}"
            wanted = require_columns(names, columns, where)
            if gone := [name for name in extra if name not in names]:
                raise DataError(
                    f"{where}: no column {', '.join(map(repr, gone))}; columns here: "
                    f"{', '.join(map(repr, names))}. Change `subset` or `at_most` in a copy of "
                    "the recipe."
                )
            wanted = list(dict.fromkeys([*wanted, *extra]))
            for number, row in enumerate(rows_of(file, wanted), start=1):
                self._row(work, number, row)

    def _row(self, work: Work, number: int, row: dict[str, Any]) -> None:
        source = work.source
        given = work.folder if source.subset == "folder" else row.get(source.subset)
        subset = self.plan.canonical[source.name].get(plain_name(str(given)))
        if subset is None:
            self.selection.count(source.name, str(given), NOT_LISTED)
            return
        self.selection.count(source.name, subset, "read")
        try:
            self._consider(source, subset, RawRow(number, number - 1, values=row))
        except RowProblem as problem:
            self.selection.count(source.name, subset, problem.reason)

    def _consider(self, source: SourceRecipe, subset: str, raw: RawRow) -> None:
        """Keep a row, or raise `RowProblem`: cheap filters first, the picture last."""
        if self.plan.owner[subset] != source.name:
            raise RowProblem("", OUTRANKED)
        for column, limit in source.at_most.items():
            value = (raw.values or {}).get(column)
            if isinstance(value, bool) or not isinstance(value, int | float) or value != value:
                raise RowProblem(column, f"no {column}")
            if value > limit:
                raise RowProblem(column, f"{column} {TOO_EASY}")
        builder = self._builders[source.name]
        question = builder.build(raw, "")
        if not question.media:
            raise RowProblem(builder.columns.images, "image missing")
        parts = [part for media in question.media for part in media.parts]
        if not all(isinstance(part, bytes) for part in parts):
            raise RowProblem(builder.columns.images, "image missing")
        id = content_id(question.text, question.answer, question.options, question.media)
        key = key_for(self.recipe.seed, subset, id)
        content = _content(question)
        if self.selection.duplicates(content):
            raise RowProblem("", DUPLICATE)
        if not self.selection.has_room(subset, key):
            raise RowProblem("", OVER_CAP)
        for media in question.media:
            builder.media.check(media)
        self._require_length(question, builder.columns.question)
        images = tuple(self._store(part) for part in parts if isinstance(part, bytes))
        item = Kept(
            key,
            subset,
            source.name,
            id,
            question.text,
            question.answer,
            question.options,
            images,
            content,
        )
        if pushed := self.selection.add(item):
            self._stale.update(pushed.images)

    def _require_length(self, question: Question, column: str) -> None:
        if self.length is None:
            return
        try:
            tokens = self.length(question)
        except DataError as error:  # an image of an extreme shape, a placeholder token in the text
            raise RowProblem(column, "no prompt can be made", str(error)) from None
        if tokens > self.recipe.filters.max_prompt_tokens:
            raise RowProblem(column, "prompt too long")

    def _store(self, content: bytes) -> str:
        """Write an image once, under its content; its name."""
        with open_image(content, "image") as image:
            suffix = "." + (image.format or "img").lower().replace("jpeg", "jpg")
        name = content_name(content)
        relative = f"{name[:2]}/{name}{suffix}"
        path = self.out / IMAGES / relative
        if not path.exists():
            write_atomic(path, content)
        return relative

    # -- what is on disk --------------------------------------------------------------------------

    def _resume(self) -> None:
        file = self.out / STATE
        if not file.exists():
            if self.out.exists() and any(self.out.iterdir()):
                raise DataError(f"`{self.out}` is not empty; name a new folder.")
            return
        try:
            saved = json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise DataError(f"Cannot read `{file}`: {error}; build into a new folder.") from None
        if saved["identity"] != self.identity:
            raise DataError(
                f"`{self.out}` was begun with another recipe, source or length limit; build into "
                "a new folder."
            )
        self.selection.restore(saved["selection"])
        self.done = saved["done"]

    def _save(self) -> None:
        """State first, then the images it no longer needs: a kill between the two leaves an
        image too many, never one too few."""
        state = {
            "identity": self.identity,
            "done": self.done,
            "selection": self.selection.to_dict(),
        }
        write_atomic(self.out / STATE, json.dumps(state).encode("utf-8"))
        used = {image for item in self.selection.items() for image in item.images}
        for name in self._stale - used:
            (self.out / IMAGES / name).unlink(missing_ok=True)
        self._stale.clear()

    def _finish(self) -> None:
        items = self.selection.items()
        lines = b"".join(_line(item) for item in items)
        write_atomic(self.out / ROWS, lines)
        used = {image for item in items for image in item.images}
        for file in (self.out / IMAGES).glob("*/*"):
            if file.relative_to(self.out / IMAGES).as_posix() not in used:
                file.unlink()
        manifest = self.manifest(hashlib.sha256(lines).hexdigest())
        write_atomic(self.out / MANIFEST, json.dumps(manifest, indent=2).encode("utf-8") + b"\n")

    def manifest(self, rows_sha256: str) -> dict[str, Any]:
        """What was built from what."""
        chosen = self.selection.subsets
        by_subset = {name: len(chosen.get(name, [])) for name in self.selection.caps}
        return {
            "name": self.recipe.name,
            "questions": len(self.selection.items()),
            "rows_sha256": rows_sha256,
            **self.identity,
            "licences": {s.dataset: s.licence for s in self.recipe.sources},
            "missing": self.plan.missing,
            "unused": self.plan.unused,
            "subsets": by_subset,
            "counts": {
                k: dict(sorted(v.items())) for k, v in sorted(self.selection.counts.items())
            },
            "recipe": self.recipe.model_dump(mode="json"),
        }


def _content(question: Question) -> str:
    """What is asked of which pictures, whatever the spacing and the answer."""
    sha = hashlib.sha256(normal_text(question.text).encode("utf-8"))
    for media in question.media:
        for part in media.parts:
            sha.update(digest(part))
    return sha.hexdigest()[:24]


def _line(item: Kept) -> bytes:
    row: Mapping[str, Any] = {
        "id": item.id,
        "question": item.question,
        "answer": item.answer,
        "options": item.options,
        "images": [f"{IMAGES}/{name}" for name in item.images],
        "source": f"{item.subset}/{item.source}",
    }
    return json.dumps(row, ensure_ascii=False).encode("utf-8") + b"\n"
