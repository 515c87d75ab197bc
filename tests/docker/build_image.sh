#!/usr/bin/env bash
# build_image.sh IMAGE: builds a local image that is used like the tensorflow/serving image (entry point, MODEL_NAME,
# /models/$MODEL_NAME, ports 8500 and 8501, flags appended), with the embedded server as its tensorflow_model_server.
# It needs no registry: Debian's packages come from debootstrap, everything else from .venv, with the engines that run
# versions (ai-edge-litert, openvino) and without what makes them (nncf). For tests; about 2.1 GB. The image that had
# this name is removed; Debian stays in an image of its own, which saves most of the time of the next run.
# decision 3
set -euo pipefail

image=${1:?usage: build_image.sh IMAGE}
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
suite=bookworm
base=tfserving-debian:$suite
work=$(mktemp -d)
container=''
finish() {
  rm -rf "$work"
  [[ -z $container ]] || docker rm "$container" >/dev/null
}
trap finish EXIT

ours=$("$root/.venv/bin/python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
[[ $ours == 3.11 ]] || { echo "error: .venv has Python $ours, Debian $suite 3.11: this image cannot hold it" >&2; exit 2; }
if ! docker image inspect "$base" >/dev/null 2>&1; then
  # shellcheck disable=SC2016  # apt expands it
  mirror=$(apt-get indextargets --format '$(SITE)' "Codename: $suite" | head -n 1)
  debootstrap --variant=minbase --include=python3 "$suite" "$work" "$mirror" >"$work.log" ||
    { tail -n 5 "$work.log" >&2; exit 1; }
  rm -rf "$work.log" "$work"/var/cache/apt/* "$work"/usr/share/{doc,locale,man}
  tar -c -C "$work" . | docker import - "$base" >/dev/null
  find "$work" -mindepth 1 -delete
fi
container=$(docker create "$base" true)

# Only what the server imports, without the large packages of the tests, reports and converters.
tar -c -C "$root/.venv/lib/python3.11/site-packages" --transform='s,^\.,srv/packages,' \
  --exclude=__pycache__ --exclude='__editable__*' \
  --exclude=./{mypy,mypyc,ruff,vulture,sklearn,scipy,locust,gevent,hypothesis,pip,include} \
  --exclude=./{nncf,networkx,plotly,clang,PIL} --exclude=./{scipy,scikit_learn,pillow}.libs \
  --exclude='./*__mypyc.*.so' --exclude='*/tensorflow/include' . | docker cp - "$container:/"
mkdir -p "$work"/{models,srv/packages,usr/bin}
cp -r "$root/serving" "$root"/*.py "$work/srv/packages/"
cat >"$work/usr/bin/tensorflow_model_server" <<'SERVER'
#!/bin/sh
# In a container, a published port does not reach the loopback address, only an address of the container's network.
PYTHONPATH=/srv/packages exec python3 -m serving serve --bind_address=0.0.0.0 "$@"
SERVER
cat >"$work/usr/bin/tf_serving_entrypoint.sh" <<'ENTRY'
#!/bin/bash
exec tensorflow_model_server --port=8500 --rest_api_port=8501 \
  --model_name="${MODEL_NAME}" --model_base_path="${MODEL_BASE_PATH}/${MODEL_NAME}" "$@"
ENTRY
chmod +x "$work"/usr/bin/{tensorflow_model_server,tf_serving_entrypoint.sh}

tar -c -C "$work" --owner=0 --group=0 models srv usr | docker cp - "$container:/"
before=$(docker images --quiet "$image")
docker commit --change 'ENV MODEL_NAME=model MODEL_BASE_PATH=/models' --change 'EXPOSE 8500 8501' \
  --change 'ENTRYPOINT ["/usr/bin/tf_serving_entrypoint.sh"]' --change 'CMD []' "$container" "$image" >/dev/null
[[ -z $before ]] || docker rmi "$before" >/dev/null || true # a container may still use it
