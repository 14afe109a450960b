"""The whole configuration tree. The defaults are the paper's values (method sections 2-6).

Importable without torch. Every level forbids unknown keys; `load_config` turns pydantic's findings
into one message that names the key and the nearest valid name.
"""

from __future__ import annotations

import difflib
import types as pytypes
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Union, cast, get_args, get_origin

import yaml
from pydantic import BaseModel, Field, ValidationError, model_validator

from zppo.config_rewards import JudgeConfig, RewardsConfig
from zppo.config_teacher import (
    TEACHER_KINDS,
    CompressorConfig,
    EndpointConfig,
    LocalTeacherConfig,
    OpenAITeacherConfig,
    ReferenceTeacherConfig,
    ScriptedTeacherConfig,
    SeveralTeachersConfig,
    SingleTeacherConfig,
    TeacherConfig,
    can_complete,
    single_teachers,
)
from zppo.config_teacher import Section as _Section
from zppo.config_verl import VerlConfig
from zppo.errors import ConfigError

__all__ = [
    "AlgorithmConfig",
    "ColumnsConfig",
    "CompressorConfig",
    "Config",
    "DataConfig",
    "EndpointConfig",
    "EvaluationConfig",
    "JudgeConfig",
    "LocalTeacherConfig",
    "LoraConfig",
    "MethodName",
    "OpenAITeacherConfig",
    "OptimizerConfig",
    "ReferenceTeacherConfig",
    "RewardsConfig",
    "RolloutConfig",
    "RunConfig",
    "ScriptedTeacherConfig",
    "SeveralTeachersConfig",
    "SingleTeacherConfig",
    "StudentConfig",
    "TeacherConfig",
    "VerlConfig",
    "can_complete",
    "dump_config",
    "load_config",
    "parse_config",
    "recipe_names",
    "single_teachers",
]

MethodName = Literal[
    "grpo",
    "grpo+replay",
    "grpo+bcq+ncq",
    "grpo+replay+bcq",
    "grpo+replay+ncq",
    "zppo",
    "grpo+replay+hint",
    "grpo+replay+prefix",
    "grpo+replay+inject",
    "off_distill",
    "off_distill+replay",
    "on_distill",
    "on_distill+replay",
]


class LoraConfig(_Section):
    """Low-rank adapters instead of full fine-tuning."""

    rank: int = Field(default=16, ge=1)
    alpha: int = Field(default=32, ge=1)
    dropout: float = Field(default=0.0, ge=0.0, lt=1.0)
    target_modules: str | list[str] = "all-linear"


class StudentConfig(_Section):
    """The policy and the engine that runs it."""

    model: str = Field(default="lab", description="`lab`, a local folder, a GGUF file, or a hub id")
    engine: Literal["local", "verl"] = Field(
        default="local", description="local: this process; verl: a cluster, see the `verl` section"
    )
    device: Literal["auto", "cpu", "cuda"] = "auto"
    dtype: Literal["auto", "fp32", "bf16"] = Field(
        default="auto",
        description="auto: bf16 on a GPU, fp32 on CPU; bf16 keeps fp32 master weights",
    )
    lora: LoraConfig | None = None
    freeze_vision: bool = False
    gradient_checkpointing: bool = False
    share_prompt: bool = Field(
        default=True, description="forward each prompt once for its G responses"
    )
    old_logprobs: Literal["auto", "sampler", "recompute"] = Field(
        default="auto", description="auto: the sampler's in fp32, recomputed in bf16"
    )
    micro_batch_tokens: int = Field(default=16_384, ge=1, description="padded tokens a micro-batch")
    sampler_batch_tokens: int = Field(
        default=131_072, ge=1, description="prompt + response tokens held in one sampling batch"
    )
    logprob_chunk_tokens: int = Field(
        default=1_024, ge=1, description="tokens a chunk of the LM head"
    )
    threads: int | None = Field(
        default=None, ge=1, description="torch threads; None: torch's default"
    )
    trust_remote_code: bool = False
    chat_template: str | None = Field(
        default=None, description="a Jinja file, for models without one"
    )


class ColumnsConfig(_Section):
    """Names of the columns of a data file; `a.b` is the field `b` of the column `a`."""

    id: str = "id"
    question: str = "question"
    messages: str | None = Field(default=None, description="a conversation, in place of question")
    answer: str = "answer"
    options: str = "options"
    images: str = "images"
    videos: str = "videos"
    kind: str = "kind"
    reference: str = "reference"
    source: str = "source"


class DataConfig(_Section):
    """Where questions come from and which rows are kept (method section 8)."""

    train: str = Field(
        default="lab:train", description="`lab:SPLIT`, or a .jsonl / .json / .parquet file"
    )
    validation: str | None = None
    limit: int | None = Field(default=None, ge=1, description="use only the first rows")
    streaming: bool = Field(default=False, description="fetch only `limit` rows of a hub data set")
    shape: Literal[
        "columns", "problem", "messages", "sharegpt", "llava", "verl", "vero", "mmfinereason"
    ] = Field(default="columns", description="a common layout; `columns` overrides its names")
    columns: ColumnsConfig = ColumnsConfig()
    max_prompt_tokens: int = Field(default=4_096, ge=1)
    max_answer_chars: int = Field(default=512, ge=1)
    min_image_side: int = Field(default=100, ge=1, description="pixels")
    min_pixels: int = Field(default=256 * 32 * 32, ge=1)
    max_pixels: int = Field(default=1_280 * 32 * 32, ge=1)
    video_fps: float = Field(default=2.0, gt=0.0)
    max_frames: int = Field(default=64, ge=2)
    video_max_pixels: int | None = Field(
        default=None, ge=1, description="frames * height * width; None: max_pixels a frame"
    )
    reformulated_visual_tokens: int | None = Field(
        default=None, ge=1, description="of a BCQ or NCQ prompt; None: as many as the plain prompt"
    )
    difficulty: str | None = Field(default=None, description="a file of `zppo data difficulty`")
    max_accuracy: float = Field(
        default=0.5, ge=0.0, le=1.0, description="leave out what the student finds easier"
    )
    workers: int = Field(default=4, ge=1, description="threads that check and decode media")
    max_skipped_share: float = Field(
        default=0.1,
        ge=0.0,
        le=1.0,
        description="refuse the file when a larger share of rows is unusable",
    )


class AlgorithmConfig(_Section):
    """Groups, zone, reformulation, buffer, advantage (method sections 2-5)."""

    group_size: int = Field(default=8, ge=2, description="G_S, student rollouts a prompt")
    teacher_samples: int = Field(
        default=4, ge=1, description="G_T, teacher rollouts a hard question"
    )
    hard_threshold: float = Field(default=0.5, gt=0.0, le=1.0, description="tau")
    rho_replay: float = Field(default=0.25, ge=0.0)
    rho_aug: float = Field(default=0.25, ge=0.0)
    buffer_capacity: int = Field(default=10_000, ge=1)
    normalize: Literal["none", "nonzero", "all"] = "nonzero"
    drop_trivial_questions: bool = Field(
        default=False,
        description="leave questions out of the update whose groups, BCQ and NCQ too, are trivial",
    )
    ncq_gate: float | None = Field(
        default=None,
        gt=0.0,
        le=1.0,
        description="no NCQ while the running share of its rollouts that repeat a listed wrong "
        "answer is not below; None: always NCQ",
    )
    prefix_fraction: float = Field(
        default=0.4, gt=0.0, lt=1.0, description="alpha of the Prefix baseline"
    )
    candidate_max_tokens: int = Field(default=512, ge=1)
    compress: Literal["teacher", "none"] = Field(
        default="teacher",
        description="none: candidates enter as they are, cut at the same token cap",
    )
    compress_attempts: int = Field(
        default=2, ge=1, description="a refused compression is asked for again, up to this often"
    )
    templates: str | None = Field(
        default=None, description="a folder whose *.j2 files replace our own"
    )


class RolloutConfig(_Section):
    """How the student samples. The paper trains at temperature 1 with nothing cut off."""

    temperature: float = Field(default=1.0, gt=0.0)
    top_p: float = Field(default=1.0, gt=0.0, le=1.0)
    top_k: int = Field(default=0, ge=0, description="0: off")
    min_p: float = Field(default=0.0, ge=0.0, lt=1.0)
    presence_penalty: float = 0.0
    repetition_penalty: float = Field(default=1.0, gt=0.0)
    max_response_tokens: int = Field(default=12_288, ge=1)


class OptimizerConfig(_Section):
    """The policy update (method section 3)."""

    lr: float = Field(default=1e-6, gt=0.0)
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = Field(default=1e-8, gt=0.0)
    weight_decay: float = Field(default=0.1, ge=0.0)
    max_grad_norm: float = Field(default=1.0, gt=0.0)
    updates_per_step: int = Field(
        default=4, ge=1, description="I; the distillation methods take one, whatever it says"
    )
    clip_low: float = Field(default=0.20, gt=0.0, lt=1.0)
    clip_high: float = Field(default=0.28, gt=0.0)
    dual_clip: float = Field(default=10.0, gt=1.0)


class EvaluationConfig(_Section):
    """Accuracy before, during and after training, on the validation questions."""

    every: int = Field(
        default=0, ge=0, description="steps between evaluations; 0: before and after only"
    )
    samples: int = Field(default=1, ge=1)
    temperature: float = Field(default=0.6, ge=0.0, description="0: greedy")
    top_p: float = Field(default=0.95, gt=0.0, le=1.0)
    top_k: int = Field(default=20, ge=0)
    presence_penalty: float = 1.5
    max_response_tokens: int = Field(default=12_288, ge=1)
    limit: int | None = Field(default=None, ge=1)
    benchmarks: list[str] = Field(
        default=[], description="measured as well, `limit` questions each; see `zppo eval --list`"
    )
    data_root: str | None = Field(
        default=None, description="rows and media of `benchmarks`: FOLDER/NAME; None: the hub"
    )


class RunConfig(_Section):
    """Length, place and records of the run."""

    dir: str | None = Field(default=None, description="None: runs/<method>-<number>")
    steps: int = Field(default=200, ge=1)
    prompts_per_step: int = Field(default=384, ge=1, description="|X_new|")
    checkpoint_every: int = Field(default=10, ge=1)
    keep_checkpoints: int = Field(default=2, ge=1)
    max_teacher_failure_share: float = Field(
        default=1.0,
        ge=0.0,
        le=1.0,
        description="stop when a larger share of a step's teacher calls gave nothing; 1: never",
    )
    save_rollouts: bool = True
    tensorboard: bool = True
    trackers: list[Literal["wandb", "trackio", "mlflow"]] = Field(default=[])
    project: str = "zppo"


class Config(_Section):
    """One training run."""

    method: MethodName = "zppo"
    seed: int = Field(default=0, ge=0)
    student: StudentConfig = StudentConfig()
    teacher: TeacherConfig | None = None
    data: DataConfig = DataConfig()
    algorithm: AlgorithmConfig = AlgorithmConfig()
    rollout: RolloutConfig = RolloutConfig()
    rewards: RewardsConfig = RewardsConfig()
    judge: JudgeConfig | None = None
    optimizer: OptimizerConfig = OptimizerConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    run: RunConfig = RunConfig()
    verl: VerlConfig = VerlConfig()

    @model_validator(mode="after")
    def _fits_together(self) -> Config:
        needs_teacher = self.method not in ("grpo", "grpo+replay") and not (
            self.method == "grpo+replay+ncq" and self.algorithm.compress == "none"
        )
        if needs_teacher and self.teacher is None:
            raise ValueError(
                f"method `{self.method}` asks a teacher; set `teacher.kind` "
                "(scripted for the lab, local for a transformers model, openai for a server, "
                "reference for the data's own worked solutions, several for more than one)"
            )
        if "distill" in self.method and not isinstance(self.teacher, LocalTeacherConfig):
            raise ValueError(
                f"method `{self.method}` reads the teacher's distribution at every token, which "
                "only a model in this process shows; set teacher.kind=local and teacher.model=..."
            )
        self._check_tasks()
        rollouts = self.run.prompts_per_step * self.algorithm.group_size
        if rollouts < self.optimizer.updates_per_step:
            raise ValueError(
                f"optimizer.updates_per_step={self.optimizer.updates_per_step} needs at least as "
                f"many rollouts a step; run.prompts_per_step * algorithm.group_size = {rollouts}"
            )
        return self

    def _check_tasks(self) -> None:
        """Worked solutions answer questions; somebody else must compress them or write hints."""
        if self.teacher is None or can_complete(self.teacher):
            return
        if "hint" in self.method:
            raise ValueError(
                f"method `{self.method}` needs somebody who writes hints; set `teacher.compressor`"
            )
        if ("bcq" in self.method or "ncq" in self.method or self.method == "zppo") and (
            self.algorithm.compress == "teacher"
        ):
            raise ValueError(
                "teacher.kind=reference has no model that compresses; set `teacher.compressor`, "
                "or algorithm.compress=none"
            )


RECIPES = Path(__file__).parent / "recipes"


def load_config(path: str | Path | None = None, overrides: Sequence[str] = ()) -> Config:
    """Read a YAML config, apply `key.sub=value` overrides and validate the result.

    `path` may be a file, the name of a shipped recipe (`lab`, `qwen3.5-2b`, ...), or None for the
    lab. Raises `ConfigError` naming the key at fault and the nearest valid one.
    """
    file = _find_recipe(path)
    return parse_config(_read_yaml(file), overrides, file)


def parse_config(
    tree: dict[str, Any], overrides: Sequence[str] = (), name: str | Path = "defaults"
) -> Config:
    """As `load_config`, from a tree of settings; `name` is what messages call it."""
    for override in overrides:
        _apply_override(tree, override)
    try:
        return Config.model_validate(tree)
    except ValidationError as error:
        raise ConfigError(_explain(error, tree, Path(name))) from None


def dump_config(config: Config) -> str:
    """The resolved config as YAML that `load_config` reads back to an equal `Config`."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False)


def recipe_names() -> list[str]:
    """The recipes shipped with the package."""
    return sorted(p.stem for p in RECIPES.glob("*.yaml"))


def _find_recipe(path: str | Path | None) -> Path:
    if path is None:
        return RECIPES / "lab.yaml"
    file, shipped = Path(path), RECIPES / f"{path}.yaml"
    if shipped.exists() and (file.is_dir() or not file.exists()):
        return shipped
    if file.exists():
        return file
    near = difflib.get_close_matches(str(path), recipe_names(), n=1)
    hint = f" Did you mean the recipe `{near[0]}`?" if near else ""
    raise ConfigError(
        f"No config file `{path}`.{hint} Shipped recipes: {', '.join(recipe_names())}."
    )


def _read_yaml(file: Path) -> dict[str, Any]:
    try:
        tree = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"Cannot read config `{file}`: {error}") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"Config `{file}` is not valid YAML: {error}") from None
    if tree is None:
        return {}
    if not isinstance(tree, dict):
        raise ConfigError(f"Config `{file}` must be a mapping of sections, not a {type(tree)}.")
    return cast(dict[str, Any], tree)


def _apply_override(tree: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key.strip():
        raise ConfigError(f"Override `{override}` must look like key.sub=value.")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        raise ConfigError(f"Override `{override}`: the value is not valid YAML.") from None
    *sections, leaf = key.strip().split(".")
    node = tree
    for section in sections:
        if not isinstance(node.get(section), dict):
            node[section] = {}
        node = node[section]
    node[leaf] = _as_number(value)


def _as_number(value: Any) -> Any:
    """YAML 1.1 reads `1e-4` as text; a learning rate typed that way is meant as a number."""
    if isinstance(value, str):
        try:
            return float(value) if "e" in value.lower() else value
        except ValueError:
            return value
    return value


def _explain(error: ValidationError, tree: Mapping[str, Any], file: Path) -> str:
    lines = [f"Config `{file}` cannot be used:"]
    for problem in error.errors():
        loc = [str(part) for part in problem["loc"] if part not in TEACHER_KINDS]
        key = ".".join(loc) or "config"
        if problem["type"] == "extra_forbidden":
            section, others = _section(loc[:-1], tree)
            names = list(section.model_fields)
            near = difflib.get_close_matches(loc[-1], names, n=1, cutoff=0.5)
            hint = f"did you mean `{near[0]}`?" if near else f"known keys: {', '.join(names)}"
            owners = [str(_kind_of(m)) for m in others if loc[-1] in m.model_fields]
            if owners:  # most often: only the kind was changed, the rest is the recipe's
                hint = (
                    f"it belongs to kind `{owners[0]}`. To change the kind, give the section as a"
                    f" whole: '{'.'.join(loc[:-1])}={{kind: {_kind_of(section)}, ...}}'"
                )
            lines.append(f"  {key}: unknown key; {hint}")
            continue
        message = problem["msg"].removeprefix("Value error, ")
        expected = problem.get("ctx", {}).get("expected")
        given = problem.get("input")
        if expected and isinstance(given, str):
            choices = [c.strip(" '") for c in expected.replace(" or ", ", ").split(",")]
            near = difflib.get_close_matches(given, choices, n=1)
            message = f"`{given}` is not one of {', '.join(choices)}" + (
                f"; did you mean `{near[0]}`?" if near else ""
            )
        elif not isinstance(given, dict):
            message = f"{message} (got {given!r})"
        lines.append(f"  {key}: {message}")
    return "\n".join(lines)


def _section(
    path: Sequence[str], tree: Mapping[str, Any]
) -> tuple[type[BaseModel], list[type[BaseModel]]]:
    """The model of the section at `path`, of a union that of the kind that `tree` names, and the
    union's other models."""
    section: type[BaseModel] = Config
    models: list[type[BaseModel]] = []
    node: Any = tree
    for part in path:
        node = _child(node, part)
        if not part.isdigit():  # an item of a list is one of the models that the list may hold
            models = list(_models_in(section.model_fields[part].annotation))
        kind = _child(node, "kind")
        named = [m for m in models if kind and _kind_of(m) == kind]
        section = (named or models)[0]
    return section, [m for m in models if m is not section]


def _kind_of(model: type[BaseModel]) -> Any:
    return model.model_fields["kind"].default if "kind" in model.model_fields else None


def _child(node: Any, key: str) -> Any:
    if isinstance(node, list):
        items = cast(list[Any], node)
        return items[int(key)] if key.isdigit() and int(key) < len(items) else None
    return cast(dict[str, Any], node).get(key) if isinstance(node, dict) else None


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if get_origin(annotation) in (Union, pytypes.UnionType, Annotated, list):
        for part in get_args(annotation):
            yield from _models_in(part)
    elif isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
