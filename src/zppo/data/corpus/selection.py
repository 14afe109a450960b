"""Which questions a corpus keeps: of each sub-dataset those with the smallest keys, up to its cap.

A key is a hash of the seed and of what the question says and shows. So a cap takes a uniform sample
that depends on neither the order nor the split of the files, and that a stream can take in one pass
while it holds no more than the cap.
"""

from __future__ import annotations

import bisect
import hashlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

OVER_CAP = "over the cap"
DUPLICATE = "duplicate"


@dataclass(frozen=True, slots=True)
class Kept:
    """A question of the corpus. `image` is the file's name under `images/`; `content` identifies
    what is asked of which picture, whatever the answer."""

    key: str
    subset: str
    source: str
    id: str
    question: str
    answer: str
    options: tuple[str, ...] | None
    images: tuple[str, ...]
    content: str


@dataclass(slots=True)
class Selection:
    """The questions kept so far, and how many rows each filter dropped, by source and
    sub-dataset."""

    caps: Mapping[str, int]
    subsets: dict[str, list[Kept]] = field(default_factory=dict[str, list[Kept]])
    counts: dict[str, Counter[str]] = field(default_factory=dict[str, Counter[str]])
    _owner: dict[str, tuple[str, str]] = field(default_factory=dict[str, tuple[str, str]])

    def count(self, source: str, subset: str, what: str, by: int = 1) -> None:
        self.counts.setdefault(f"{source}/{subset}", Counter())[what] += by

    def has_room(self, subset: str, key: str) -> bool:
        """Whether a question with this key would be kept, so that it is worth decoding."""
        kept = self.subsets.get(subset, [])
        return len(kept) < self.caps[subset] or key < kept[-1].key

    def duplicates(self, content: str) -> bool:
        """Whether the same question about the same picture is kept already."""
        return content in self._owner

    def add(self, item: Kept) -> Kept | None:
        """Keep a question for which there is room; what it pushes out."""
        kept = self.subsets.setdefault(item.subset, [])
        bisect.insort(kept, item, key=lambda k: k.key)
        self._owner[item.content] = (item.subset, item.key)
        self.count(item.source, item.subset, "kept")
        if len(kept) <= self.caps[item.subset]:
            return None
        last = kept.pop()
        del self._owner[last.content]
        self.count(last.source, last.subset, "kept", -1)
        self.count(last.source, last.subset, OVER_CAP)
        return last

    def items(self) -> list[Kept]:
        """All that is kept, sub-datasets in the order of the recipe."""
        return [item for name in self.caps for item in self.subsets.get(name, [])]

    def to_dict(self) -> dict[str, Any]:
        return {
            "items": [asdict(item) for item in self.items()],
            "counts": {name: dict(found) for name, found in self.counts.items()},
        }

    def restore(self, saved: Mapping[str, Any]) -> None:
        """Become the selection that `to_dict` wrote."""
        self.counts = {name: Counter(found) for name, found in saved["counts"].items()}
        self.subsets, self._owner = {}, {}
        for row in saved["items"]:
            options = None if row["options"] is None else tuple(row["options"])
            item = Kept(**{**row, "images": tuple(row["images"]), "options": options})
            self.subsets.setdefault(item.subset, []).append(item)
            self._owner[item.content] = (item.subset, item.key)


def key_for(seed: int, subset: str, content_id: str) -> str:
    """16 hex digits, as good as random, the same in every build."""
    text = f"{seed}/{subset}/{content_id}"
    return hashlib.blake2b(text.encode("utf-8"), digest_size=8).hexdigest()
