"""Errors a user can act on. The CLI prints their message alone, without a traceback."""

from __future__ import annotations


class ZppoError(Exception):
    """Base of every error whose message names what is wrong, where, and what to do."""


class ConfigError(ZppoError):
    """A key, type or value in the configuration is wrong."""


class DataError(ZppoError):
    """A data file, row or media item cannot be used."""


class ModelError(ZppoError):
    """A model, tokenizer or processor cannot be loaded or does not fit the method."""


class TeacherError(ZppoError):
    """The teacher cannot serve what the method needs."""


class RunError(ZppoError):
    """A run directory, checkpoint or training step is in a state that cannot go on."""


class EngineError(ZppoError):
    """The cluster engine cannot be started, or has lost a worker or a server."""
