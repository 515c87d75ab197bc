#!/usr/bin/env bash
# build_image.sh IMAGE: builds a local image that is used like the tensorflow/serving image (entry point, MODEL_NAME,
# /models/$MODEL_NAME, ports 8500 and 8501, flags appended), with the embedded server as its tensorflow_model_server.
# It needs no registry: Debian's packages come from debootstrap, everything else from .venv. For tests; about 2.5 GB.
# decision 3
set -euo pipefail

image=${1:?usage: build_image.sh IMAGE}
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
suite=bookworm
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

ours=$("$root/.venv/bin/python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
[[ $ours == 3.11 ]] || { echo "error: .venv has Python $ours, Debian $suite 3.11: this image cannot hold it" >&2; exit 2; }
# shellcheck disable=SC2016  # apt expands it
mirror=$(apt-get indextargets --format '$(SITE)' "Codename: $suite" | head -n 1)
debootstrap --variant=minbase --include=python3 "$suite" "$work" "$mirror" >"$work.log" ||
  { tail -n 5 "$work.log" >&2; exit 1; }
rm -rf "$work.log" "$work"/var/cache/apt/* "$work"/usr/share/{doc,locale,man}

mkdir -p "$work/srv/packages" "$work/models"
# Only what the server imports, without the packages of the tests and reports.
tar -c -C "$root/.venv/lib/python3.11/site-packages" --exclude=__pycache__ --exclude='__editable__*' \
  --exclude=./{mypy,mypyc,ruff,vulture,sklearn,scipy,locust,gevent,hypothesis,pip,include} \
  --exclude='*/tensorflow/include' . | tar -x -C "$work/srv/packages"
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

tar -c -C "$work" . | docker import \
  --change 'ENV MODEL_NAME=model MODEL_BASE_PATH=/models' \
  --change 'EXPOSE 8500 8501' \
  --change 'ENTRYPOINT ["/usr/bin/tf_serving_entrypoint.sh"]' \
  - "$image" >/dev/null
