#!/usr/bin/env bash
# Build both images and hold them to what docs/deploy.md promises: docker/check.sh [docker or podman]
#
# BASE, LOCK and CPU_INDEX in the environment become build arguments.
set -euo pipefail
cd "$(dirname "$0")/.."
engine=${1:-docker}
version=$(sed -n 's/^version = "\(.*\)"$/\1/p' pyproject.toml)
volume=recsys-check-$$
server=""
export BUILDAH_FORMAT=docker # podman's own format of images has no health checks

say() { echo "images: $*" >&2; }
fail() {
  say "$*"
  exit 1
}
end() {
  [[ -z $server ]] || "$engine" rm --force "$server" >/dev/null
  "$engine" volume rm --force "$volume" >/dev/null
}
trap end EXIT

arguments=(--build-arg VERSION="$version")
for name in BASE LOCK CPU_INDEX; do
  if [[ -n ${!name+set} ]]; then arguments+=(--build-arg "$name=${!name}"); fi
done

# As strictly as compose.yaml runs them.
inside() { # IMAGE ARGUMENT…
  "$engine" run --rm --read-only --tmpfs /tmp --cap-drop ALL --security-opt no-new-privileges --volume "$volume:/data" "$@"
}

for target in serve train; do
  begin=$SECONDS
  "$engine" build --target "$target" "${arguments[@]}" --tag "recsys-$target:$version" .
  say "$target built in $((SECONDS - begin)) s"
  "$engine" history "recsys-$target:$version"
  # Read by the shell of the image.
  # shellcheck disable=SC2016
  inside --entrypoint sh "recsys-$target:$version" -c '
    [ "$(id -u)" = 10001 ] || { echo "runs as $(id)"; exit 1; }
    if (: > /opt/recsys/written) 2>/dev/null; then echo "/opt/recsys can be written to"; exit 1; fi
    for name in cc gcc g++ clang ld make pip; do
      if command -v "$name"; then echo "$name is inside"; exit 1; fi
    done'
done
if inside --entrypoint python "recsys-serve:$version" -c "import torch" 2>/dev/null; then fail "serve holds torch"; fi

inside "recsys-serve:$version" sample /data/shop --users 600 --items 300 --events 12000
settings=(--env RECSYS_CONFIG=/data/shop/recsys.toml)
inside "${settings[@]}" --env 'RECSYS_TRAINING__MODELS=["mf"]' "recsys-train:$version" train
inside "${settings[@]}" "recsys-serve:$version" recommend 1003 -k 3
inside "${settings[@]}" "recsys-serve:$version" key create check --scope recommend >/dev/null

server=$("$engine" run --detach --read-only --tmpfs /tmp --cap-drop ALL --security-opt no-new-privileges --volume "$volume:/data" \
  "${settings[@]}" "recsys-serve:$version")
for ((try = 0; try < 60; try++)); do
  health=$("$engine" inspect --format '{{.State.Health.Status}}' "$server")
  if [[ $health == healthy ]]; then break; fi
  sleep 1
done
[[ $health == healthy ]] || { "$engine" logs "$server"; fail "the health check says $health after a minute"; }

begin=$(date +%s%N)
"$engine" stop --time 20 "$server" >/dev/null
stopped=$((($(date +%s%N) - begin) / 1000000))
code=$("$engine" inspect --format '{{.State.ExitCode}}' "$server")
say "stopped in $stopped ms with exit code $code"
((stopped < 5000)) || fail "SIGTERM took longer than 5 seconds"
[[ $code != 137 ]] || fail "the service had to be killed"
