# Tests an upgrade: this daemon replaces the previous release, by exec and through the service manager's store. Buffers,
# clients and a followed publication stay, and neither the clients nor the guest notice the upgrade. A program that cannot
# take over is not started, and the daemon continues to serve.
. /host/lib/dom0.sh
plan 22

size=8294400
program=/run/bin/xen-zcopyd
said() { wait_for 20 grep -q -e "$2" "$1" || { cat "$1"; return 1; }; }
listed() { xen-zcopy list --json >/results/list.json && [ "$(grep -c '"id"' /results/list.json)" = "$1" ]; }
is_listed() { wait_for 5 listed "$1" || { cat /results/list.json; return 1; }; }
ids() { xen-zcopy list --json | sed -n 's/.*"id":"\([0-9a-f]*\)".*/\1/p' | sort; }
same_ids() { ids >/results/ids.after && cmp /results/ids.before /results/ids.after; }
# Puts a file in the program's place, as a package manager does.
installs() { cp "$1" "$program.new" && chmod 755 "$program.new" && mv "$program.new" "$program"; }

mkdir -p /run/bin
printf 'log-level = info\nrelease-deadline = 2s\n' >/run/xen-zcopyd.conf
keep_grants
guest_create front || bail_out "no guest"
home=/local/domain/$domid/data/zcopy
guest_start front screen xen-zcopy share --domain 0 --pattern smpte --publish screen
guest_says front screen 30 "published at" || bail_out "the guest shares nothing"
# Small and slow: a frame must be compared before the guest draws the next one, a second later, on a slow host too.
guest_start front frames xen-zcopy share --domain 0 --size 64K --pattern counting --publish frames --frames 10000 --fps 1
guest_says front frames 30 "published at" || bail_out "the guest shares no frames"
directory=$(xenstore-read "$home/screen/directory")
trap '' PIPE
mkfifo /run/wants

# The reports of the guest about its peers.
reports() { cat /results/front.screen.log /results/front.frames.log | grep "has ended\|has released\|has mapped"; }
frames() { grep -c '^frame ' "$follow_log"; }
more_frames() { [ "$(frames)" -ge $((frames_before + 5)) ]; }
follows() { frames_before=$(frames); wait_for 20 more_frames || { cat "$follow_log"; return 1; }; }
# The clients that a daemon has: a backend in C, and a program that follows frames and compares each with what it must be.
begin() {
  log=/results/daemon.$1.log backend_log=/results/backend.$1.log follow_log=/results/follow.$1.log
  installs /host/bin/xen-zcopyd-previous
  fd-store /run/notify "$program" --keep --config /run/xen-zcopyd.conf >"$log" 2>&1 & manager=$!
  check "$1: the previous daemon starts" said "$log" "^ready" || bail_out "no daemon"
  : >"$backend_log"
  backend "$domid" "$directory" $size 1920 1080 </run/wants >>"$backend_log" 2>&1 & backend=$!
  exec 7>/run/wants
  check "a backend in C gets the guest's buffer" said "$backend_log" "^mapped" || bail_out "the backend maps nothing"
  : >"$follow_log"
  xen-zcopy map --from "$home/frames" --follow --verify counting >"$follow_log" 2>&1 & follower=$!
  check "a program follows the guest's frames" follows || bail_out "no frames"
  is_listed 2
  ids >/results/ids.before
  reports >/results/reports.before
  pid=$(pidof xen-zcopyd)
}
is_new() { cmp "/proc/$(pidof xen-zcopyd)/exe" /host/bin/xen-zcopyd; }
ready() { [ "$(grep -c '^ready' "$log")" = "$1" ]; }
goes_on() {
  check "with the same buffers" same_ids
  check "frames come as before, and are right" follows
  reports >/results/reports.after
  check "the guest has noticed nothing" cmp /results/reports.before /results/reports.after
  check "nor have the clients" kill -0 $backend $follower
}
finish() {
  kill -INT $follower
  wait $follower
  echo destroy >&7
  said "$backend_log" "^destroyed"
  exec 7>&-
  wait $backend
  check "$1: what was mapped before is released after" is_listed 0
  kill -INT $manager
  wait $manager
}

# --- By exec, as SIGUSR2 does -------------------------------------------------------

begin exec
installs /host/bin/xen-zcopyd
kill -USR2 "$pid"
upgraded() { ready 2 && [ "$(pidof xen-zcopyd)" = "$pid" ] && is_new; }
check "the new daemon takes its place" wait_for 10 upgraded
goes_on

# It asks the next one first.
printf '#!/bin/sh\nexit 1\n' >/run/refuses
installs /run/refuses
kill -USR2 "$pid"
check "a program that cannot take over is not started, and the log says so" said "$log" "has ended with 1: .*continues to serve"
installs /host/bin/xen-zcopyd-previous
kill -USR2 "$pid"
check "nor is the previous daemon, which does not say what it reads" said "$log" "has ended with 64: .*continues to serve"
still() { ready 2 && [ "$(pidof xen-zcopyd)" = "$pid" ] && same_ids && follows; }
check "the daemon continues to serve" still
finish exec

# --- Through the service manager's store, as a package's upgrade does -----------------

begin store
installs /host/bin/xen-zcopyd
kill -TERM $manager
restarted() { ready 2 && [ "$(pidof xen-zcopyd)" != "$pid" ] && is_new; }
check "the new daemon is started in its place" wait_for 10 restarted
goes_on
finish store

# --- Nothing left -----------------------------------------------------------------

guest_destroy front
gone() { ! xl list | grep -qE "^(front|\(null\)) "; }
wait_for 10 gone
check "Xen's grant tables are as they were" grants_as_kept
