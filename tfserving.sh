#!/usr/bin/env bash
# Hosts one variant of a model on TensorFlow Serving's ports, in the foreground, until Ctrl-C.
# The usage text below is the documentation; every function can be sourced and tested.
# decision 2
set -euo pipefail

usage() {
  cat <<'USAGE'
Usage: ./tfserving.sh [VARIANT|production] [--backend container|binary|embedded] [--pull] [-- SERVER_FLAG ...]

Hosts models/$MODEL/VARIANT (default: original) in the foreground; Ctrl-C stops it. `production` hosts the production
root instead: every model that was promoted, with its labels, and what is promoted from now on (docs/promotion.md).

Backend: the first of these that can run here, unless --backend chooses one:
  container  the tensorflow/serving image, where a Docker engine answers and the image is there
  binary     a tensorflow_model_server on PATH (it listens on all interfaces: it has no bind flag)
  embedded   this project's own server, same API, from .venv (make .venv/.installed)

Options:
  --backend NAME   use this backend (or BACKEND=NAME)
  --pull           pull the image when it is not there
  -- FLAG ...      further flags for the server, such as --enable_batching or --engine=litert (docs/serving.md)
  -h, --help       this text

Environment:
  MODEL      the model below models/ (mnist)
  PORT       gRPC port on 127.0.0.1 (8500)
  REST_PORT  REST port on 127.0.0.1 (8501)
  IMAGE      the container image (tensorflow/serving:2.19.1)
  MODELS     the models folder (models/ beside this script)
  PRODUCTION the production root (production/ beside this script)

Examples:
  ./tfserving.sh                         # models/mnist/original
  ./tfserving.sh optimized               # models/mnist/optimized
  MODEL=ssd ./tfserving.sh int8 --backend embedded
  ./tfserving.sh production              # then: python -m serving promote mnist optimized
  ./tfserving.sh optimized -- --prefer_tflite_model    # run by LiteRT, if the version has a model.tflite
  IMAGE=yours ./tfserving.sh optimized -- --engine=openvino    # an image of this project's server, or embedded
USAGE
}

say() { printf 'tfserving: %s\n' "$*" >&2; }

die() {
  printf 'error: %s\n' "$*" >&2
  exit 2
}

# resolve_root PATH: the folder that holds the script at PATH, through symbolic links (macOS has no readlink -f)
resolve_root() {
  local path=$1 target
  while [[ -L $path ]]; do
    target=$(readlink "$path")
    [[ $target == /* ]] || target=$(dirname "$path")/$target
    path=$target
  done
  (cd "$(dirname "$path")" && pwd)
}

# versions BASE_PATH: prints the numbers of its model versions, newest last
versions() {
  local entry
  for entry in "$1"/*/; do
    entry=$(basename "$entry")
    if [[ $entry =~ ^[0-9]+$ && -e $1/$entry/saved_model.pb ]]; then echo "$entry"; fi
  done | sort -n
}

# folders DIRECTORY: prints the names of the folders in it, on one line
folders() {
  local entry names=()
  for entry in "$1"/*/; do [[ -d $entry ]] && names+=("$(basename "$entry")"); done
  echo "${names[*]+"${names[*]}"}"
}

# variants MODEL_DIRECTORY: prints the names of the variants that this script can host
variants() {
  local entry
  for entry in "$1"/*/; do
    entry=$(basename "$entry")
    if [[ $entry != production && -n $(versions "$1/$entry") ]]; then echo "$entry"; fi
  done
}

# check_production: ends with an error unless $production is a production root; makes one of a folder that is not there
check_production() {
  if [[ ! -e $production || (-d $production && -z $(ls -A "$production")) ]]; then
    if ! mkdir -p "$production" || ! printf 'model_config_list {\n}\n' >"$production/models.config"; then
      die "$production cannot be made a production root"
    fi
    say "made an empty production root: $production"
  fi
  [[ -f $production/models.config ]] || die "$production is no production root: it has no models.config; set PRODUCTION"
  production=$(cd "$production" && pwd)
}

# check_variant: ends with an error unless $models/$model/$variant holds a model version
check_variant() {
  local there
  [[ $variant =~ ^[A-Za-z0-9_.-]+$ && $variant != .* ]] || die "'$variant' is no variant's name (letters, digits, _ . -)"
  [[ -d $models ]] || die "there is no folder $models; make one with 'make demo', or set MODELS"
  [[ -d $models/$model ]] ||
    die "there is no $models/$model (there are: $(folders "$models")); make mnist with 'make demo', or set MODEL or MODELS"
  [[ -n $(versions "$models/$model/$variant") ]] && return
  there=$(variants "$models/$model" | xargs)
  [[ -n $there ]] || die "$models/$model has no variant with a model version; make one with 'make demo'"
  die "there is no variant '$variant' of $model; there are: $there"
}

# engine_answers: succeeds if a Docker engine answers within 5 s
engine_answers() {
  command -v docker >/dev/null || return 1
  if command -v timeout >/dev/null; then
    timeout 5 docker version --format '{{.Server.Version}}' >/dev/null 2>&1
  else
    docker version --format '{{.Server.Version}}' >/dev/null 2>&1
  fi
}

image_is_there() { docker image inspect "$image" >/dev/null 2>&1; }

# image_is_wanted: pulls the image if the user agrees, by --pull or at a prompt on the terminal
image_is_wanted() {
  local answer=no
  if [[ $pull == yes ]]; then
    answer=yes
  elif [[ -t 0 && -t 2 ]]; then
    read -r -p "tfserving: the image $image is not here. Pull it (about 200 MB)? [y/N] " answer || answer=no
  fi
  [[ $answer == [yY]* ]] || return 1
  docker pull "$image" >&2 || die "could not pull $image; is the network up? (--backend embedded needs none)"
}

embedded_is_there() { [[ -x $root/.venv/bin/python ]]; }

# choose_backend: sets $backend and $why, or ends with an error
choose_backend() {
  local reasons=()
  case $backend in
    container)
      engine_answers || die "no Docker engine answers; start one, or use --backend embedded"
      image_is_there || image_is_wanted || die "the image is not here; get it with: docker pull $image"
      why='as asked'
      return ;;
    binary)
      command -v tensorflow_model_server >/dev/null || die "there is no tensorflow_model_server on PATH"
      why='as asked'
      return ;;
    embedded)
      embedded_is_there || die "there is no .venv; make it with: make .venv/.installed"
      why='as asked'
      return ;;
    '') ;;
    *) die "unknown backend '$backend'; there are: container, binary, embedded" ;;
  esac

  if ! engine_answers; then
    reasons+=("no Docker engine answers")
  elif image_is_there || image_is_wanted; then
    backend=container why="a Docker engine answers and has $image"
    return
  else
    reasons+=("the image is not here: docker pull $image")
  fi
  if command -v tensorflow_model_server >/dev/null; then
    backend=binary why="${reasons[0]}"
    return
  fi
  reasons+=("no tensorflow_model_server on PATH")
  embedded_is_there || die "nothing can serve: ${reasons[0]}, ${reasons[1]}, no .venv; make the last with: make .venv/.installed"
  backend=embedded why="${reasons[0]}; ${reasons[1]}"
}

# port_is_taken PORT
port_is_taken() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

# rest_get PATH: one GET without curl, which a small machine may not have
rest_get() {
  local line=''
  (
    exec 3<>"/dev/tcp/127.0.0.1/$rest_port"
    printf 'GET %s HTTP/1.0\r\nHost: localhost\r\n\r\n' "$1" >&3
    while IFS= read -r -t 5 line <&3 || [[ -n $line ]]; do printf '%s\n' "$line"; done
  ) 2>/dev/null
}

# check_ports: ends with an error unless both are port numbers, different and free
check_ports() {
  local one
  for one in "$port" "$rest_port"; do
    if ! [[ $one =~ ^[1-9][0-9]{0,4}$ ]] || ((one > 65535)); then
      die "'$one' is no port (1 to 65535); set PORT and REST_PORT"
    fi
  done
  [[ $port != "$rest_port" ]] || die "PORT and REST_PORT are both $port; they must differ"
  for one in "$port" "$rest_port"; do
    ! port_is_taken "$one" || die "port $one is taken; stop what listens there, or set PORT and REST_PORT"
  done
}

# say_class: says if the newest version was chosen on another class of CPU; the embedded server says so itself
say_class() {
  local python=$root/.venv/bin/python line
  [[ $backend != embedded ]] || return 0
  [[ -x $python ]] || python=$(command -v python3) || return 0
  line=$(
    # The container does not get this shell's variables, so they lower no class there.
    [[ $backend != container ]] || unset ONEDNN_MAX_CPU_ISA DNNL_MAX_CPU_ISA
    cd "$root" && "$python" -m serving.chosen_elsewhere "$models/$model/$variant" "$model" 2>/dev/null
  ) || return 0 # a python3 that is too old
  [[ -z $line ]] || say "$line"
}

# start_server: starts the backend as a child; sets $server, its process id
start_server() {
  local base=$models/$model/$variant
  local common=(--port="$port" --rest_api_port="$rest_port")
  # Mounted where it is here: models.config names the same paths in the container.
  local mount=(-v "$production:$production:ro")
  if [[ $variant == production ]]; then
    # At a start, the labels in the file name versions that are not loaded yet.
    flags=(--model_config_file="$production/models.config" --model_config_file_poll_wait_seconds=1
      --allow_version_labels_for_unavailable_models=true ${flags[@]+"${flags[@]}"})
  else
    common+=(--model_name="$model" --model_base_path="$base")
    mount=(-v "$base:/models/$model:ro" -e "MODEL_NAME=$model")
  fi
  case $backend in
    container)
      container=tfserving-$model-$variant-$$
      # --init: the server ignores SIGTERM when it is process 1.
      docker run --rm --init --name "$container" \
        -p "127.0.0.1:$port:8500" -p "127.0.0.1:$rest_port:8501" \
        "${mount[@]}" \
        "$image" ${flags[@]+"${flags[@]}"} &
      ;;
    binary) tensorflow_model_server "${common[@]}" ${flags[@]+"${flags[@]}"} & ;;
    embedded)
      # From the project's folder, so that Python finds the packages whatever the user's current folder is.
      (cd "$root" && exec .venv/bin/python -m serving serve "${common[@]}" ${flags[@]+"${flags[@]}"}) &
      ;;
  esac
  server=$!
}

# stop_server: handles Ctrl-C, SIGTERM and SIGHUP (a closed terminal); the server first answers running requests
stop_server() {
  local status=0
  trap '' INT TERM HUP
  say 'stopping' || true # writing fails if the terminal was closed
  if [[ $backend == container ]]; then
    docker stop --time 10 "$container" >/dev/null 2>&1 || true
  fi
  if [[ -n $server ]]; then
    kill -TERM "$server" 2>/dev/null || true
    wait "$server" 2>/dev/null || status=$?
  fi
  # The other servers end with the signal's status even if all requests were answered.
  [[ $backend == embedded ]] || status=0
  say 'stopped' || true
  exit "$status"
}

# answers: succeeds if the server has the model, or of a production root, answers at all
answers() {
  if [[ $variant == production ]]; then
    rest_get "/v1/models/$model" | grep -q '^HTTP/'
  else
    rest_get "/v1/models/$model" | grep -q '"AVAILABLE"'
  fi
}

# await_ready: returns once the model is available; exits with an error if the server ends before
await_ready() {
  local status
  until answers; do
    if ! kill -0 "$server" 2>/dev/null; then
      status=0
      wait "$server" || status=$?
      printf 'error: the server (%s) ended before the model answered, with status %s; its reason is above\n' \
        "$backend" "$status" >&2
      exit 1
    fi
    sleep 0.2
  done
}

# engine: prints what runs the model, if the server says it; TensorFlow Serving does not
engine() { rest_get /models | sed -n 's/.*"engine": "\([a-z]*\)".*/\1/p' | head -n 1; }

# announce: prints the model's addresses and a command to try
announce() {
  if [[ $variant == production ]]; then
    say "ready: $production, REST http://127.0.0.1:$rest_port   gRPC 127.0.0.1:$port"
    say 'see: python -m serving status --root'" $(printf %q "$production")"
    say 'Ctrl-C stops it'
    return
  fi
  local newest request by url=http://127.0.0.1:$rest_port/v1/models/$model
  newest=$(versions "$models/$model/$variant" | tail -n 1)
  request=$models/$model/$variant/$newest/assets.extra/request.json
  by=$(engine) || by=''
  say "ready: $model, variant $variant, version $newest${by:+, run by $by}"
  if [[ -z $by && " ${flags[*]+"${flags[*]}"}" == *' --engine'* ]]; then
    say 'this server may ignore --engine, as TensorFlow Serving does; LiteRT is --prefer_tflite_model there'
  fi
  say "REST $url   gRPC 127.0.0.1:$port"
  if [[ -e $request ]]; then
    say "try: curl -d $(printf %q "@$request") $url:predict"
  else
    say "try: curl $url/metadata"
  fi
  say 'Ctrl-C stops it'
}

parse_arguments() {
  variant='' flags=()
  while (($#)); do
    case $1 in
      -h | --help) usage; exit 0 ;;
      --pull) pull=yes ;;
      --backend=*) backend=${1#*=} ;;
      --backend)
        (($# > 1)) || die '--backend takes a name: container, binary, embedded'
        backend=$2
        shift ;;
      --)
        shift
        flags=("$@")
        break ;;
      -*) die "unknown option '$1' (see ./tfserving.sh --help; flags for the server go after --)" ;;
      *)
        [[ -z $variant ]] || die "one variant at a time, not '$variant' and '$1'"
        variant=$1 ;;
    esac
    shift
  done
  variant=${variant:-original}
}

main() {
  root=$(resolve_root "${BASH_SOURCE[0]}")
  model=${MODEL:-mnist} port=${PORT:-8500} rest_port=${REST_PORT:-8501} models=${MODELS:-$root/models}
  production=${PRODUCTION:-$root/production}
  image=${IMAGE:-tensorflow/serving:2.19.1} backend=${BACKEND:-} pull=no why='' container='' server=''
  parse_arguments "$@"
  [[ $model =~ ^[A-Za-z0-9_.-]+$ && $model != .* ]] || die "MODEL='$model' is no model's name (letters, digits, _ . -)"
  if [[ $variant == production ]]; then
    check_production
  else
    check_variant
    models=$(cd "$models" && pwd)
  fi
  choose_backend
  check_ports
  say "backend: $backend ($why)"
  [[ $variant == production ]] || say_class
  trap stop_server INT TERM HUP
  start_server
  await_ready
  announce
  local status=0
  wait "$server" || status=$?
  die "the server ended by itself, with status $status; its reason is above"
}

if [[ ${BASH_SOURCE[0]} == "$0" ]]; then
  main "$@"
fi
