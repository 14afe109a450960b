#!/usr/bin/env bash
# Wait until every server answers; a model of 27B takes minutes to load. MINUTES=30 at most.
#
#   wait_for_teachers.sh http://node1:8000/v1 http://node2:8000/v1
set -euo pipefail

end=$((SECONDS + ${MINUTES:-30} * 60))
for url in "$@"; do
  until curl --silent --fail --max-time 10 "$url/models" >/dev/null; do
    ((SECONDS < end)) || { echo "$url does not answer; see its log" >&2; exit 1; }
    sleep 10
  done
  echo "$url is ready"
done
