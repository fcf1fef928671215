# Tests an upgrade: this daemon replaces the previous release, by exec and through the service manager's store. Buffers,
# clients and a followed publication stay, and neither the clients nor the guest observe the upgrade. The daemon does not
# start a program that cannot take over, and continues to serve.
. /host/lib/dom0.sh
plan 22

size=8294400
program=/run/bin/xen-zcopyd
said() { wait_for 20 grep -q -e "$2" "$1" || { cat "$1"; return 1; }; }
listed() { xen-zcopy list --json >/results/list.json && [ "$(grep -c '"id"' /results/list.json)" = "$1" ]; }
is_listed() { wait_for 5 listed "$1" || { cat /results/list.json; return 1; }; }
ids() { xen-zcopy list --json | sed -n 's/.*"id":"\([0-9a-f]*\)".*/\1/p' | sort; }
same_ids() { ids >/results/ids.after && cmp /results/ids.before /results/ids.after; }
# installs FILE: replaces the program with FILE by a rename, as a package manager does.
installs() { cp "$1" "$program.new" && chmod 755 "$program.new" && mv "$program.new" "$program"; }

mkdir -p /run/bin
printf 'log-level = info\nrelease-deadline = 2s\n' >/run/xen-zcopyd.conf
keep_grants
guest_create front || bail_out "no guest"
home=/local/domain/$domid/data/zcopy
guest_start front screen xen-zcopy share --domain 0 --pattern smpte --publish screen
guest_says front screen 30 "published at" || bail_out "the guest shares no buffer"
# Frames are small and slow: even on a slow host, each must be compared before the guest draws the next one a second later.
guest_start front frames xen-zcopy share --domain 0 --size 64K --pattern counting --publish frames --frames 10000 --fps 1
guest_says front frames 30 "published at" || bail_out "the guest shares no frames"
directory=$(xenstore-read "$home/screen/directory")
trap '' PIPE
mkfifo /run/wants

# reports: prints the guest's reports about its peers.
reports() { cat /results/front.screen.log /results/front.frames.log | grep "has ended\|has released\|has mapped"; }
frames() { grep -c '^frame ' "$follow_log"; }
more_frames() { [ "$(frames)" -ge $((frames_before + 5)) ]; }
follows() { frames_before=$(frames); wait_for 20 more_frames || { cat "$follow_log"; return 1; }; }
# begin NAME: starts the previous daemon with two clients: a backend in C, and a program that follows frames and verifies each.
begin() {
  log=/results/daemon.$1.log backend_log=/results/backend.$1.log follow_log=/results/follow.$1.log
  installs /host/bin/xen-zcopyd-previous
  fd-store /run/notify "$program" --keep --config /run/xen-zcopyd.conf >"$log" 2>&1 & manager=$!
  check "$1: the previous daemon starts" said "$log" "^ready" || bail_out "no daemon"
  : >"$backend_log"
  backend "$domid" "$directory" $size 1920 1080 </run/wants >>"$backend_log" 2>&1 & backend=$!
  exec 7>/run/wants
  check "a backend in C maps the guest's buffer" said "$backend_log" "^mapped" || bail_out "the backend maps no buffer"
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
  check "the new daemon has the same buffers" same_ids
  check "frames continue to arrive with the expected contents" follows
  reports >/results/reports.after
  check "the guest has seen no end, release or new map" cmp /results/reports.before /results/reports.after
  check "the clients still run" kill -0 $backend $follower
}
finish() {
  kill -INT $follower
  wait $follower
  echo destroy >&7
  said "$backend_log" "^destroyed"
  exec 7>&-
  wait $backend
  check "$1: the buffers mapped before the upgrade are released after it" is_listed 0
  kill -INT $manager
  wait $manager
}

# --- By exec, as SIGUSR2 does -------------------------------------------------------

begin exec
installs /host/bin/xen-zcopyd
kill -USR2 "$pid"
upgraded() { ready 2 && [ "$(pidof xen-zcopyd)" = "$pid" ] && is_new; }
check "the new daemon replaces the previous one in the same process" wait_for 10 upgraded
goes_on

# The daemon checks the next program before it executes it.
printf '#!/bin/sh\nexit 1\n' >/run/refuses
installs /run/refuses
kill -USR2 "$pid"
check "the daemon does not exec a program that cannot take over, and logs that it continues to serve" said "$log" "has ended with 1: .*continues to serve"
installs /host/bin/xen-zcopyd-previous
kill -USR2 "$pid"
check "the daemon does not exec the previous release, which cannot report the state that it reads" said "$log" "has ended with 64: .*continues to serve"
still() { ready 2 && [ "$(pidof xen-zcopyd)" = "$pid" ] && same_ids && follows; }
check "the daemon continues to serve" still
finish exec

# --- Through the service manager's store, as a package's upgrade does -----------------

begin store
installs /host/bin/xen-zcopyd
kill -TERM $manager
restarted() { ready 2 && [ "$(pidof xen-zcopyd)" != "$pid" ] && is_new; }
check "the service manager starts the new daemon in a new process" wait_for 10 restarted
goes_on
finish store

# --- Nothing is left --------------------------------------------------------------

guest_destroy front
gone() { ! xl list | grep -qE "^(front|\(null\)) "; }
wait_for 10 gone
check "the grants in use are the same as before" grants_as_kept
