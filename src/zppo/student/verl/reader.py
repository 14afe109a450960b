"""The prompts' side of the cluster engine: what can be known without weights and workers."""

from __future__ import annotations

from zppo.config import Config
from zppo.errors import ConfigError
from zppo.student.inputs import PromptEncoder
from zppo.student.loading import LoadedModel, load_model
from zppo.student.verl.config import rollout_context
from zppo.student.verl.prompts import ServerMedia, StepPrompts
from zppo.types import Prompt


class PromptReader:
    """Turns prompts into token ids. `context_limit` is the most tokens that a prompt and its
    response may have together."""

    def __init__(self, loaded: LoadedModel, config: Config) -> None:
        self.loaded = loaded
        server = ServerMedia.of(loaded.image_processor, config)  # before we set sizes of our own
        self.encoder = PromptEncoder.configured(
            loaded.tokenizer,
            loaded.model,
            loaded.image_processor,
            config.data,
            visual_tokens=config.data.reformulated_visual_tokens,
        )
        self.prompts = StepPrompts(self.encoder, server)
        text = loaded.model.config.get_text_config()
        self.context_limit = rollout_context(config, int(text.max_position_embeddings))

    @classmethod
    def from_config(cls, config: Config) -> PromptReader:
        """Raises `ConfigError` for what the engine cannot do, and `ModelError`."""
        require_supported(config)
        s = config.student
        loaded = load_model(
            s.model, "cpu", s.dtype, s.chat_template, s.trust_remote_code, weights=False
        )
        return cls(loaded, config)

    def prompt_tokens(self, prompt: Prompt) -> int:
        """See `Student.prompt_tokens`."""
        return self.encoder.length(prompt)

    def rendered(self, prompt: Prompt) -> str:
        """See `Student.rendered`."""
        return self.encoder.rendered(prompt)


def require_supported(config: Config) -> None:
    """Raise `ConfigError` for what this engine cannot do."""
    if config.student.lora is not None:
        raise ConfigError("student.engine=verl trains all weights; leave student.lora out.")
    if config.student.model.endswith(".gguf"):
        raise ConfigError("student.engine=verl reads no GGUF files; convert the model first.")
    if "distill" in config.method:
        raise ConfigError(
            f"method `{config.method}` needs student and teacher in one process; set "
            "student.engine=local."
        )
