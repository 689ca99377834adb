#!/usr/bin/env bash
# Proves cirque.service under a real systemd, without touching the machine's own: a private user manager in mount,
# process and control group namespaces of its own. Run by hand, as root; `npm test` does not.
#
#   reload        the main process stays, every worker is another, the reload succeeds
#   kill -9       the supervisor is started again and adopts the workers, which are the same as before
#   restart       a full stop and start; the sockets wait in systemd's store
#   stop          ends everything; a dial is refused
#
# All but the last under clients that never repeat a request: a single failed one fails the run. Once with a service of
# a few lines (test/support/plain-service.ts) and once with the real proxy service. Prints `ok`, `FAIL` or `SKIP` and why;
# exits with 1 when something failed.
set -euo pipefail

here=$(cd -P -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
root=$(cd -P -- "$here/../.." && pwd)

skip() {
  printf 'SKIP try-systemd: %s\n' "$1"
  exit 0
}

# The outer half: finds out whether it can be done here, makes the namespaces, cleans up.
outer() {
  [ "$(uname -s)" = Linux ] || skip 'not Linux'
  local program
  for program in systemd systemctl unshare mount; do
    command -v "$program" >/dev/null || skip "$program is not installed"
  done
  [ "$(id -u)" -eq 0 ] || skip 'needs root for namespaces of its own'
  unshare --mount --pid --fork --cgroup true 2>/dev/null || skip 'namespaces cannot be made here'
  local hierarchy
  hierarchy=$(awk '$3 == "cgroup2" { print $2; exit }' /proc/mounts)
  [ -n "$hierarchy" ] || skip 'no cgroup2 hierarchy is mounted'

  work=$(mktemp --directory)
  group=$hierarchy$(sed -n 's/^0:://p' /proc/self/cgroup)/cirque-try-$$
  mkdir "$group" 2>/dev/null || { rmdir "$work"; skip "no control group can be made in $hierarchy"; }
  trap clean_up EXIT
  local status=0
  # The first process of a process namespace takes all others with it when it ends.
  bash -c 'echo $$ >"$0/cgroup.procs" && exec "$@"' "$group" \
    timeout --kill-after=5 240 unshare --mount --pid --fork --kill-child --cgroup --mount-proc --propagation private \
    bash "$here/try-systemd.sh" --inside "$work" || status=$?
  exit "$status"
}

clean_up() {
  # Processes that were just killed may hold the groups for another moment.
  local try
  for try in 1 2 3 4 5 6 7 8 9 10; do
    find "$group" -depth -type d -exec rmdir {} + 2>/dev/null && break
    sleep 0.2
  done
  rm --recursive --force "$work"
}

failures=0
app=

ok() { printf 'ok   %s: %s\n' "$app" "$1"; }

fail() {
  printf 'FAIL %s: %s\n' "$app" "$1"
  failures=$((failures + 1))
}

# check WHAT COMMAND...: whether the command succeeds.
check() {
  local what=$1
  shift
  if "$@"; then ok "$what"; else fail "$what"; fi
}

# until_true SECONDS COMMAND...
until_true() {
  local deadline=$((SECONDS + $1))
  shift
  until "$@"; do
    [ "$SECONDS" -lt "$deadline" ] || return 1
    sleep 0.05
  done
}

user() { systemctl --user "$@"; }
property() { user show cirque.service --property="$1" --value; }
manager_runs() { user is-system-running --quiet 2>/dev/null; }
is_active() { [ "$(property ActiveState)" = active ]; }

# worker_pids: one line, in the order of the slots; empty while one of them has no worker that accepts.
worker_pids() {
  "$root/bin/cirque" status --json --state-dir "$XDG_RUNTIME_DIR/cirque" 2>/dev/null | "$node" --eval '
    const { slots } = JSON.parse(require("node:fs").readFileSync(0, "utf8"))
    if (slots.every(({ worker }) => worker?.state === "accepting")) console.log(slots.map(({ worker }) => worker.pid).join(" "))' 2>/dev/null || true
}
all_accept() { [ -n "$(worker_pids)" ]; }
main_pid_is_not() { is_active && [ "$(property MainPID)" != "$1" ]; }
refused() { ! (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; }
no_common_word() { [ -z "$(comm -12 <(tr ' ' '\n' <<<"$1" | sort) <(tr ' ' '\n' <<<"$2" | sort))" ]; }
no_worker_left() { ! grep --quiet --no-messages --fixed-strings workers/main /proc/[0-9]*/cmdline; }

start_load() {
  "$node" "$work/load.ts" "$port" >"$work/ledger" &
  load=$!
  sleep 0.5
}

# What was under way is finished and counted; then there must have been something, and nothing may have failed.
stop_load() {
  # Consequences that come late count as well.
  sleep 0.5
  kill -TERM "$load"
  wait "$load" || true
  check "$1: nothing was lost of $(cat "$work/ledger")" grep --quiet '"failed":{},' "$work/ledger"
  check "$1: there was a load" grep --quiet '"ok":[0-9]\{3,\}' "$work/ledger"
}

inside() {
  work=$1
  # A private /run without traces of the real one, and one in which a user manager believes that systemd runs the machine.
  mount -t tmpfs none /run
  mkdir --parents /run/systemd/system
  mount -t cgroup2 none /sys/fs/cgroup || skip 'the control groups cannot be mounted in the namespace'

  node=$root/node_modules/.bin/node
  [ -x "$node" ] || node=$(command -v node)
  port=$("$node" --eval 'const server = require("node:net").createServer().listen(0, "127.0.0.1", () => { console.log(server.address().port); server.close() })')
  export XDG_RUNTIME_DIR=/run/user/0 SYSTEMD_UNIT_PATH=$work/units:/usr/lib/systemd/user
  mkdir --parents --mode=0700 "$XDG_RUNTIME_DIR" "$work/units/cirque.service.d"
  cp "$here/cirque.service" "$work/units/"
  # The unit as it is shipped, less what a user manager cannot do, with an application of ours.
  cat >"$work/units/cirque.service.d/try.conf" <<UNIT
[Service]
ExecStart=
ExecStart=$root/bin/cirque run $work/app.ts --workers 2
ExecReload=
ExecReload=$root/bin/cirque reload
Environment=PLAIN_LISTEN=127.0.0.1:$port PROXY_LISTEN=127.0.0.1:$port
User=
Group=
AmbientCapabilities=
CapabilityBoundingSet=
NoNewPrivileges=no
ProtectSystem=no
ProtectHome=no
# A start that does not work should not take a minute and a half to say so.
TimeoutStartSec=40
StandardOutput=append:$work/log
StandardError=append:$work/log
UNIT
  cat >"$work/load.ts" <<LOAD
import { SteadyLoad } from '$root/test/support/steady-load.ts'
const load = new SteadyLoad({ port: Number(process.argv[2]), fresh: 2, keepAlive: 4, pauseMs: 5 })
process.once('SIGTERM', async () => {
  const { ok, failed, lost } = await load.stop()
  console.log(JSON.stringify({ ok, failed, lost: lost.slice(0, 5) }))
})
LOAD

  systemd --user >"$work/systemd.log" 2>&1 &
  local manager=$!
  until_true 10 manager_runs || skip "no user manager runs here: $(tail --lines=3 "$work/systemd.log")"

  for app in plain self-tested; do prove; done

  if [ "$failures" -gt 0 ]; then
    printf '%s checks failed; the end of the log:\n' "$failures"
    tail --lines=40 "$work/log"
  fi
  kill "$manager"
  [ "$failures" -eq 0 ]
}

# The whole life of one application of test/support/apps, from a start to a stop.
prove() {
  printf "import '%s'\n" "$root/test/support/apps/$app.ts" >"$work/app.ts"
  if ! user start cirque.service; then
    fail 'start'
    tail --lines=20 "$work/log"
    exit 1
  fi
  ok 'start: systemd was told that it is ready'
  check 'start: every slot accepts' until_true 10 all_accept
  check 'start: the sockets are in the store' test "$(property NFileDescriptorStore)" -ge 2

  local main workers
  main=$(property MainPID) workers=$(worker_pids)
  start_load
  check 'reload: succeeds' user reload cirque.service
  check 'reload: every slot accepts' until_true 10 all_accept
  stop_load 'reload'
  check 'reload: the main process is the same' test "$(property MainPID)" = "$main"
  check 'reload: every worker is another' no_common_word "$workers" "$(worker_pids)"

  main=$(property MainPID) workers=$(worker_pids)
  start_load
  kill -KILL "$main"
  check 'kill -9: systemd starts another' until_true 10 main_pid_is_not "$main"
  check 'kill -9: every slot accepts' until_true 10 all_accept
  stop_load 'kill -9'
  check 'kill -9: the workers are the same' test "$(worker_pids)" = "$workers"

  main=$(property MainPID)
  start_load
  check 'restart: succeeds' user restart cirque.service
  check 'restart: every slot accepts' until_true 10 all_accept
  stop_load 'restart'
  check 'restart: the main process is another' main_pid_is_not "$main"

  check 'stop: succeeds' user stop cirque.service
  check 'stop: a dial is refused' refused
  check 'stop: no worker is left' until_true 10 no_worker_left
}

case "${1:-}" in
  '') outer ;;
  --inside) inside "$2" ;;
  *) printf 'usage: %s\n' "$0" >&2; exit 2 ;;
esac
