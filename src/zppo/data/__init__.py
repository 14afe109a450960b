"""Questions and their media: reading, checking, ordering. Importable without torch."""

from zppo.data.filters import filter_by_length
from zppo.data.loader import Left, StepLoader, readable
from zppo.data.media import load_frames, load_image
from zppo.data.order import PromptOrder
from zppo.data.questions import LazyQuestions, select
from zppo.data.rows import Dataset, load_questions
from zppo.data.skips import Skip, SkipReport

__all__ = [
    "Dataset",
    "LazyQuestions",
    "Left",
    "PromptOrder",
    "Skip",
    "SkipReport",
    "StepLoader",
    "filter_by_length",
    "load_frames",
    "load_image",
    "load_questions",
    "readable",
    "select",
]
