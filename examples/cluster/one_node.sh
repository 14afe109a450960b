#!/usr/bin/env bash
# Everything on one machine of 8 GPUs: teacher on two, student on six.
#
#   one_node.sh                                     the config beside this script
#   one_node.sh my.yaml run.dir=runs/one run.steps=2
#
# See ray_node.sh for GPUS, TEACHER_GPUS, TEACHER and the other variables.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
config=${1:-$here/zppo-qwen3.5-2b.yaml}
shift || true # no arguments at all
student_gpus=$((${GPUS:-8} - ${TEACHER_GPUS:-2}))

trap '"$here/ray_node.sh" stop' EXIT
"$here/ray_node.sh" head
"$here/wait_for_teachers.sh" "http://127.0.0.1:${TEACHER_PORT:-8000}/v1"
options=(verl.nnodes=1 "verl.n_gpus_per_node=$student_gpus" verl.ray_address=auto "$@")
zppo check "$config" "${options[@]}"
zppo train "$config" "${options[@]}"
