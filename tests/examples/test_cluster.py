"""The cluster scripts with stand-ins for Slurm, Ray, vLLM and zppo: who is started where, with
what. Whether those do as they are told is not shown here."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from zppo.config import Config, load_config
from zppo.student.verl.config import rollout_context

FOLDER = Path(__file__).parents[2] / "examples/cluster"
CONFIG = FOLDER / "zppo-qwen3.5-2b.yaml"
SCRIPTS = (*sorted(FOLDER.glob("*.sh")), FOLDER / "slurm.sbatch")

pytestmark = pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")

#: Prints its name, the GPUs it sees and its arguments, one line a call.
_RECORD = """#!/usr/bin/env bash
printf '%s|%s|%s\\n' "$(basename "$0")" "${CUDA_VISIBLE_DEVICES:-}" "$*" >>"$RECORD"
"""
_STAND_INS = {
    **dict.fromkeys(("ray", "vllm", "zppo", "curl"), _RECORD),
    "sleep": "#!/usr/bin/env bash\n",
    "scontrol": '#!/usr/bin/env bash\nprintf "%s\\n" n1 n2 n3\n',
    # Leaves its own options out and runs the rest here.
    "srun": '#!/usr/bin/env bash\nwhile [[ $1 == --* ]]; do shift; done\nexec "$@"\n',
    "hostname": "#!/usr/bin/env bash\n[[ ${1:-} == --ip-address ]] && echo 10.0.0.1 || echo n1\n",
}


class Machine:
    """A folder with stand-ins on the PATH; `calls` are (program, GPUs it sees, arguments)."""

    def __init__(self, root: Path) -> None:
        self.root, self.record = root, root / "calls"
        tools = root / "bin"
        tools.mkdir()
        for name, text in _STAND_INS.items():
            (tools / name).write_text(text)
            (tools / name).chmod(0o755)
        self.environment = {
            "PATH": f"{tools}:{os.environ['PATH']}",
            "RECORD": str(self.record),
            "LOGS": str(root / "logs"),
        }

    def run(self, *command: str | Path, **environment: str) -> list[list[str]]:
        subprocess.run(
            list(map(str, command)),
            env=self.environment | environment,
            cwd=self.root,
            check=True,
            timeout=60,
            capture_output=True,
        )
        return [line.split("|") for line in self.record.read_text().splitlines()]


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def arguments(calls: list[list[str]], program: str, start: str) -> list[str]:
    """Of the one call of `program` whose arguments begin with `start`."""
    [found] = [c[2] for c in calls if c[0] == program and c[2].startswith(start)]
    return found.split(" ")


def check_config(config: Config) -> None:
    assert config.student.engine == "verl"
    assert config.run.prompts_per_step == 384 and config.optimizer.updates_per_step == 4
    held = config.student.micro_batch_tokens * config.verl.sequence_parallel
    assert held >= rollout_context(config, 262_144)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_scripts_are_bash(script: Path) -> None:
    subprocess.run(["bash", "-n", str(script)], check=True)
    assert script.suffix == ".sbatch" or os.access(script, os.X_OK)


def test_the_config_is_the_papers_and_its_micro_batches_hold_a_sequence() -> None:
    config = load_config(CONFIG)
    check_config(config)
    recipe = load_config("qwen3.5-2b")
    for section in ("algorithm", "optimizer", "rollout"):
        assert getattr(config, section) == getattr(recipe, section)


@pytest.mark.parametrize(
    "gpus, teacher, student, last", [("8", "2", "0,1,2,3,4,5", "6,7"), ("4", "1", "0,1,2", "3")]
)
def test_a_machine_is_divided(
    machine: Machine, gpus: str, teacher: str, student: str, last: str
) -> None:
    calls = machine.run(
        FOLDER / "ray_node.sh", "worker", "10.0.0.1", GPUS=gpus, TEACHER_GPUS=teacher
    )
    count = len(student.split(","))
    assert ["ray", student, f"start --address=10.0.0.1:6379 --num-gpus={count}"] in calls
    assert (machine.root / "logs/teacher-n1.pid").exists()
    for _ in range(50):  # the teacher goes on in the background
        if served := [c for c in calls if c[0] == "vllm"]:
            break
        calls = machine.run("true")
    assert served == [
        ["vllm", last, f"serve Qwen/Qwen3.5-27B --port 8000 --tensor-parallel-size {teacher}"]
    ]


def test_a_machine_without_teacher(machine: Machine) -> None:
    calls = machine.run(FOLDER / "ray_node.sh", "head", TEACHER_GPUS="0")
    assert calls == [["ray", "0,1,2,3,4,5,6,7", "start --head --port=6379 --num-gpus=8"]]


def test_one_machine_checks_trains_and_stops(machine: Machine) -> None:
    calls = machine.run(FOLDER / "one_node.sh", CONFIG, "run.steps=2", TEACHER_GPUS="4")
    trained = arguments(calls, "zppo", "train")
    assert arguments(calls, "zppo", "check")[1:] == trained[1:]
    config = load_config(trained[1], trained[2:])
    check_config(config)
    assert config.verl.n_gpus_per_node == 4 and config.run.steps == 2
    assert calls[-1][0] == "ray" and calls[-1][2] == "stop"
    assert not list((machine.root / "logs").glob("*.pid"))


def test_one_machine_without_arguments(machine: Machine) -> None:
    calls = machine.run(FOLDER / "one_node.sh")
    assert arguments(calls, "zppo", "train")[1] == str(CONFIG)


def test_slurm_starts_every_machine_and_names_every_teacher(machine: Machine) -> None:
    calls = machine.run(
        "bash",
        FOLDER / "slurm.sbatch",
        CONFIG,
        "run.dir=runs/x",
        SLURM_JOB_NODELIST="n[1-3]",
        ZPPO_CLUSTER=str(FOLDER),
        SLURM_SUBMIT_DIR=str(machine.root),
    )
    starts = [c[2] for c in calls if c[0] == "ray"]
    assert starts.count("start --head --port=6379 --num-gpus=6") == 1
    assert starts.count("start --address=10.0.0.1:6379 --num-gpus=6") == 2
    [line] = [c[2] for c in calls if c[0] == "zppo" and c[2].startswith("train")]
    words = line.split(" ", 2)
    # The endpoints are one argument with spaces in it.
    before, _, rest = words[2].partition("teacher.endpoints=")
    endpoints, _, after = rest.partition("] ")
    overrides = [*before.split(), f"teacher.endpoints={endpoints}]", *after.split()]
    config = load_config(words[1], overrides)
    check_config(config)
    assert config.verl.nnodes == 3 and config.verl.n_gpus_per_node == 6
    assert config.run.dir == "runs/x"
    urls = [e.url for e in config.teacher.endpoints]
    assert urls == [f"http://n{i}:8000/v1" for i in (1, 2, 3)]
    asked = [c[2] for c in calls if c[0] == "curl"]
    assert all(any(url in line for line in asked) for url in urls)


def test_kubernetes_manifest_fits_together() -> None:
    job, service = yaml.safe_load_all((FOLDER / "kuberay.yaml").read_text())
    words = shlex.split(job["spec"]["entrypoint"])
    assert words[:3] == ["zppo", "train", "/config/zppo.yaml"]
    config = load_config(CONFIG, words[3:])
    check_config(config)
    cluster = job["spec"]["rayClusterSpec"]
    [workers] = cluster["workerGroupSpecs"]
    assert workers["replicas"] == config.verl.nnodes
    pod = workers["template"]
    ray, teacher = pod["spec"]["containers"]
    gpus = [int(c["resources"]["limits"]["nvidia.com/gpu"]) for c in (ray, teacher)]
    assert gpus == [config.verl.n_gpus_per_node, 2] and sum(gpus) == 8
    assert str(gpus[1]) == teacher["command"][-1]
    assert service["spec"]["selector"].items() <= pod["metadata"]["labels"].items()
    [endpoint] = config.teacher.endpoints
    assert service["metadata"]["name"] in endpoint.url
    for group in (cluster["headGroupSpec"]["template"], pod):
        named = {volume["name"] for volume in group["spec"]["volumes"]}
        for container in group["spec"]["containers"]:
            assert {m["name"] for m in container["volumeMounts"]} <= named
