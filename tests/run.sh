#!/usr/bin/env bash
# Runs all tests, and installs what they need first: on Debian and Ubuntu packages by apt,
# Python packages into tests/.venv, npm packages beside their package.json.
#
#   tests/run.sh                 everything but fuzz, which takes ten minutes to build
#   tests/run.sh rust python     some of: lint rust web fuzz python browser
#
# FUZZ_SECONDS is how long each fuzz target runs (20), FUZZ_TARGETS which ones do (all).
set -euo pipefail
cd "$(dirname "$0")/.."

steps=("$@")
[ ${#steps[@]} -gt 0 ] || steps=(lint rust web python browser)

say() { printf '\n== %s\n' "$*"; }
have() { command -v "$1" >/dev/null 2>&1; }

as_root() {
  if [ "$(id -u)" -eq 0 ]; then "$@"; else sudo "$@"; fi
}

packages() {
  local missing=()
  have cc || missing+=(build-essential)
  have cmake || missing+=(cmake)
  have node || missing+=(nodejs npm)
  have python3 || missing+=(python3)
  python3 -c 'import ensurepip' 2>/dev/null || missing+=(python3-venv)
  have chromium || have google-chrome || missing+=(chromium)
  # The real encoders before the engine.
  [ -e /usr/include/vpx/vp8cx.h ] || missing+=(libvpx-dev)
  [ -e /usr/include/aom/aomcx.h ] || missing+=(libaom-dev)
  # The Korean page is looked at in pictures.
  fc-list 2>/dev/null | grep -qi nanum || missing+=(fonts-nanum)
  [ ${#missing[@]} -eq 0 ] && return
  if ! have apt-get; then
    echo "please install: ${missing[*]}" >&2
    exit 1
  fi
  say "installing ${missing[*]}"
  as_root apt-get update -qq
  DEBIAN_FRONTEND=noninteractive as_root apt-get install -y -qq "${missing[@]}" >/dev/null
}

binary() {
  cargo build --quiet --package moim --package moim-network --package moim-load --package moim-decoders
  MOIM_BIN="$PWD/target/debug/moim"
  MOIM_LINK_BIN="$PWD/target/debug/moim-link"
  MOIM_LOAD_BIN="$PWD/target/debug/moim-load"
  MOIM_ENGINE_PIPE_BIN="$PWD/target/debug/moim-engine-pipe"
  export MOIM_BIN MOIM_LINK_BIN MOIM_LOAD_BIN MOIM_ENGINE_PIPE_BIN
}

lint() {
  say "formatting, lints, licences"
  cargo fmt --all --check
  cargo clippy --quiet --workspace --all-targets -- -D warnings
  if ! have cargo-deny && [ ! -x target/tools/bin/cargo-deny ]; then
    # It runs for a second, so that optimising it is not worth the minutes.
    cargo install --quiet --locked --debug --root target/tools cargo-deny
  fi
  PATH="$PWD/target/tools/bin:$PATH"
  # The database of advisories is fetched from GitHub; without it the rest still counts.
  if ! cargo deny --log-level error check advisories 2>target/deny.log; then
    if grep -qiE 'failed to (fetch|clone|open)|network|resolve' target/deny.log; then
      echo "advisories: NOT CHECKED, the advisory database cannot be reached"
    else
      cat target/deny.log
      exit 1
    fi
  fi
  cargo deny --log-level error check bans licenses sources
}

rust() {
  say "Rust"
  cargo test --quiet --workspace
}

web() {
  say "meeting page"
  [ -d web/node_modules ] || npm --prefix web ci --no-audit --no-fund
  npm --prefix web test
}

# Builds all fuzz targets and runs one a core, each for FUZZ_SECONDS. Inputs that lead somewhere
# new are kept in target/fuzz/corpus, those that fail in tests/fuzz/artifacts.
fuzz() {
  local seconds=${FUZZ_SECONDS:-20} host targets
  say "fuzz targets, $seconds s each"
  if ! have cargo-fuzz && [ ! -x target/tools/bin/cargo-fuzz ]; then
    cargo install --quiet --locked --debug --root target/tools cargo-fuzz
  fi
  # Without a sanitizer a stable toolchain does; there is no unsafe code among what is fuzzed.
  PATH="$PWD/target/tools/bin:$PATH" \
    cargo fuzz build --fuzz-dir tests/fuzz --target-dir target/fuzz --sanitizer none 2>target/fuzz-build.log ||
    { cat target/fuzz-build.log && exit 1; }
  host=$(rustc -vV | sed -n 's/^host: //p')
  targets=${FUZZ_TARGETS:-$(ls tests/fuzz/seeds)}
  # shellcheck disable=SC2086
  printf '%s\n' $targets |
    xargs -P "$(nproc)" -I{} tests/fuzz/run.sh "target/fuzz/$host/release" {} "$seconds"
}

python() {
  say "Python clients, real encoders and decoders"
  binary
  if [ tests/interop/requirements.txt -nt tests/.venv/installed ]; then
    python3 -m venv tests/.venv
    tests/.venv/bin/pip install --quiet --disable-pip-version-check -r tests/interop/requirements.txt
    touch tests/.venv/installed
  fi
  tests/.venv/bin/pytest -q -n 2 tests/interop tests/decoders
}

browser() {
  say "browsers"
  binary
  [ -d tests/browser/node_modules ] || npm --prefix tests/browser ci --no-audit --no-fund
  npm --prefix tests/browser test
}

packages
for step in "${steps[@]}"; do
  case "$step" in
    lint | rust | web | fuzz | python | browser) "$step" ;;
    *)
      echo "unknown step: $step (there are lint, rust, web, fuzz, python, browser)" >&2
      exit 2
      ;;
  esac
done
say "all done: ${steps[*]}"
