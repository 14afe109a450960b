#!/usr/bin/env bash
# One machine of a cluster: a server of the teacher on its last GPUs, Ray on the others.
#
#   ray_node.sh head             on the first machine
#   ray_node.sh worker HEAD_IP   on every other one
#   ray_node.sh stop             on each of them, afterwards
#
# Both go on in the background. Environment variables, with their defaults:
#   GPUS=8 TEACHER_GPUS=2   of this machine, and how many of them are the teacher's
#   TEACHER=Qwen/Qwen3.5-27B  TEACHER_PORT=8000  RAY_PORT=6379  LOGS=logs
# TEACHER_GPUS=0 starts no teacher. Everything must run in the environment of docs/cluster.md.
set -euo pipefail

role=${1:?"head, worker HEAD_IP, or stop"}
GPUS=${GPUS:-8}
TEACHER_GPUS=${TEACHER_GPUS:-2}
TEACHER=${TEACHER:-Qwen/Qwen3.5-27B}
TEACHER_PORT=${TEACHER_PORT:-8000}
RAY_PORT=${RAY_PORT:-6379}
LOGS=${LOGS:-logs}
mkdir -p "$LOGS"
pid_file="$LOGS/teacher-$(hostname).pid"

if [[ $role == stop ]]; then
  ray stop
  if [[ -f $pid_file ]]; then
    kill "$(cat "$pid_file")" || true # it may have ended by itself
    rm "$pid_file"
  fi
  exit 0
fi
[[ $role == head || $role == worker ]] || { echo "no role $role" >&2; exit 2; }

student_gpus=$((GPUS - TEACHER_GPUS))
devices() { seq -s, "$1" "$(($2 - 1))"; } # devices FIRST END: their numbers, END not included

if ((TEACHER_GPUS > 0)); then
  CUDA_VISIBLE_DEVICES=$(devices "$student_gpus" "$GPUS") \
    nohup vllm serve "$TEACHER" --port "$TEACHER_PORT" \
    --tensor-parallel-size "$TEACHER_GPUS" >"$LOGS/teacher-$(hostname).log" 2>&1 &
  echo $! >"$pid_file"
fi

# Ray counts and hands out only the GPUs it sees.
export CUDA_VISIBLE_DEVICES
CUDA_VISIBLE_DEVICES=$(devices 0 "$student_gpus")
if [[ $role == head ]]; then
  ray start --head --port="$RAY_PORT" --num-gpus="$student_gpus"
else
  ray start --address="${2:?"the address of the head"}:$RAY_PORT" --num-gpus="$student_gpus"
fi
