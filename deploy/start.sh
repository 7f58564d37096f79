#!/usr/bin/env bash
# Starts a meeting server on a bare Debian or Ubuntu: installs what is missing, builds, runs.
#
#   deploy/start.sh                     development mode, on this machine only
#   deploy/start.sh --config moim.yaml  any options of moim
#
# It installs packages by apt, and Rust by rustup where there is none that is new enough.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)

# The oldest Rust that builds it, as Cargo.toml says; and the oldest Node.js that builds the page.
rust=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' "$root/Cargo.toml" | head -n 1)
node=20

say() { printf '== %s\n' "$*"; }
have() { command -v "$1" >/dev/null 2>&1; }
# Whether the version $1 is at least $2.
at_least() { [ "$(printf '%s\n%s\n' "$2" "$1" | sort -V | head -n 1)" = "$2" ]; }

as_root() {
  if [ "$(id -u)" -eq 0 ]; then "$@"; else sudo "$@"; fi
}

install() {
  say "installing $*"
  as_root apt-get update -qq
  DEBIAN_FRONTEND=noninteractive as_root apt-get install -y -qq "$@" >/dev/null
}

packages() {
  local missing=()
  have cc || missing+=(build-essential)
  have cmake || missing+=(cmake)
  have curl || missing+=(curl ca-certificates)
  have npm || missing+=(nodejs npm)
  [ ${#missing[@]} -eq 0 ] && return
  if ! have apt-get; then
    echo "please install: ${missing[*]}" >&2
    exit 1
  fi
  install "${missing[@]}"
}

rust_is_there() {
  have cargo && at_least "$(cargo --version | cut -d' ' -f2)" "$rust"
}

rust() {
  PATH="${CARGO_HOME:-$HOME/.cargo}/bin:$PATH"
  rust_is_there && return
  say "installing Rust $rust or newer"
  if have rustup; then
    rustup toolchain install stable --profile minimal
    rustup default stable
  else
    curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh -s -- -y --quiet --profile minimal
  fi
  rust_is_there || { echo "Rust $rust or newer is needed; $(cargo --version) is there" >&2; exit 1; }
}

page() {
  have node && at_least "$(node --version | tr -d v)" "$node" && return
  echo "the meeting page needs Node.js $node or newer to be built; building without it" >&2
  features=(--no-default-features)
}

features=()
packages
rust
page
say "building (some minutes the first time)"
exec cargo run --release --quiet --manifest-path "$root/Cargo.toml" "${features[@]}" -- "$@"
