# Tests the daemon with a display backend in C that contains no code for Xen and gets a guest's buffers from the daemon. An
# upgrade and a restart of the daemon keep all buffers and clients, and no guest observes them. After the death of the
# backend, of the guest or of the daemon, no buffer, grant or descriptor is left.
. /host/lib/dom0.sh
plan 49

size=8294400
said() { wait_for 20 grep -q -e "$2" "$1" || { cat "$1"; return 1; }; }
# logged LOG COMMAND...: runs the command and keeps its output in /results/LOG.log; prints the output on failure.
logged() {
  local log="/results/$1.log" status=0
  shift
  "$@" >"$log" 2>&1 || status=$?
  [ $status = 0 ] || cat "$log"
  return $status
}
descriptors() { ls "/proc/$(pidof xen-zcopyd)/fd" | wc -l; }
listed() { xen-zcopy list --json >/results/list.json && [ "$(grep -c '"id"' /results/list.json)" = "$1" ]; }
is_listed() { wait_for 5 listed "$1" || { cat /results/list.json; return 1; }; }
ids() { xen-zcopy list --json | sed -n 's/.*"id":"\([0-9a-f]*\)".*/\1/p' | sort; }

cat >/run/xen-zcopyd.conf <<'END'
log-level = info
release-deadline = 2s
END
check "xen-zcopyd --check accepts the configuration" logged check xen-zcopyd --check --config /run/xen-zcopyd.conf
starts() { fd-store /run/notify xen-zcopyd --keep --config /run/xen-zcopyd.conf >>/results/daemon.log 2>&1 & manager=$!; }
starts
check "the daemon starts" said /results/daemon.log "^ready" || bail_out "no daemon"
keep_grants

guest_create front || bail_out "no guest"
guest_start front screen xen-zcopy share --domain 0 --pattern smpte --publish screen
guest_says front screen 30 "published at" || bail_out "the guest shares no buffer"
screen=/local/domain/$domid/data/zcopy/screen
directory=$(xenstore-read "$screen/directory")

# --- A backend in C ---------------------------------------------------------------

trap '' PIPE
# The backend reads the requests of its frontend from this pipe.
mkfifo /run/wants
start_backend() {
  : >/results/backend.log
  backend --importer /dev/lab-importer "$domid" "$directory" $size 1920 1080 </run/wants >>/results/backend.log 2>&1 &
  backend=$!
  exec 7>/run/wants
}
start_backend
check "the backend maps the guest's 1080p buffer without a copy" said /results/backend.log "2025 pages of domain $domid, not copied"
check "the backend imports the buffer into a device" said /results/backend.log "^imported"
check "list prints the buffer" is_listed 1
id=$(ids)
describes() {
  logged describe xen-zcopy describe "$id" && grep -q "$backend\|backend" /results/describe.log && grep -q dmabuf /results/describe.log
}
check "describe prints the mechanism and the holder of the buffer" describes
check "stats prints how many pages Xen allows this domain to map" sh -c "xen-zcopy stats >/results/stats.log && grep 'pages that Xen allows' /results/stats.log"
check "top prints the buffer" sh -c "xen-zcopy top --once >/results/top.log && grep -q $(echo "$id" | cut -c1-8) /results/top.log"
echo destroy >&7
check "the backend releases the buffer, and is notified when the buffer has no holder" said /results/backend.log "^destroyed"
check "list prints no buffer after the release" is_listed 0
exec 7>&-
wait $backend

# --- The system calls of a map ----------------------------------------------------

# Counts the system calls of a map: of a map without the daemon, then of the daemon from the request to its reply, then of the
# C client. The count excludes reads of the clock, which elsewhere need no system call. It excludes the daemon's log, which by
# default has no line for a map. It excludes the requests to XenStore between the poll and the opening of the device: the daemon
# makes them if the timer of its watches has expired, four times a second. Debian 12's C library calls newfstatat() for
# fstat(), Debian 13's fstat(); Debian 12's libxenstore writes requests with write(), Debian 13's with sendmsg().
counts() {
  awk '/gntdev"/ { inside = 1 } inside && /gntdev"|GNTDEV|AT_EMPTY_PATH|^fstat/ { count++ } inside && /AT_EMPTY_PATH|^fstat/ { exit }
    END { print count }' /results/direct.strace
  awk '/recvmsg.*iov_base="\\2\\0\\0\\0/ { inside = 1; count = 1 } /gntdev"/ { ticked = 0 }
    inside && !ticked && !/^clock_gettime|^write\(2,/ { count++ } /^poll.* = 1 / { ticked = 1 }
    inside && /^sendmsg.*iov_base="\\2\\200\\0\\0/ { exit } END { print count }' /results/daemon.strace
  awk '/^write\(1,/ { inside = 0 } /^sendmsg.*iov_base="\\2\\0\\0\\0/ { inside = 1 }
    inside && !/^(newfstatat|fstat)\(1,/ { count++ } END { print count }' /results/client.strace
}
# The daemon already watches the domain, so the traced map does not include that.
traced() {
  strace -o /results/direct.strace xen-zcopy map --direct --domain "$domid" --directory "$directory" --size $size \
    --exec true || return
  strace -p "$(pidof xen-zcopyd)" -o /results/daemon.strace 2>/results/strace.log &
  local tracer=$! status=0
  wait_for 5 grep -q attached /results/strace.log
  strace -o /results/client.strace backend "$domid" "$directory" $size 1920 1080 </dev/null >/results/client.log &
  local client=$!
  wait_for 10 grep -q ^mapped /results/client.log || status=$?
  # strace blocks fatal signals while its command runs, so signal the command.
  kill -TERM "$(pidof backend)"
  wait $client
  kill $tracer
  wait $tracer
  return $status
}
check "strace records a map without and with the daemon" traced
set -- $(counts)
note "system calls of a map: $1 without the daemon; $2 in the daemon, and $3 in its client"
check "a map makes at most 6 system calls more in the daemon than without it" test "$2" -le $(($1 + 6))
check "a map makes at most 2 system calls in the client" test "$3" -le 2

# --- Contents and links -----------------------------------------------------------

check "map through the daemon: the pixels match the guest's picture" \
  logged pixels xen-zcopy map --from "$screen" --verify smpte --dump /results/daemon.png
program='[ -n "$ZCOPY_FD" ] && readlink /proc/self/fd/$ZCOPY_FD'
check "a program started with --exec inherits the dma-buf" sh -c "xen-zcopy map --from $screen --exec sh -c '$program' | grep -q dmabuf"
check "the guest is notified of both releases" wait_for 10 sh -c "grep -c 'has released' /results/front.screen.log | grep -qx 2"
check "map through the daemon by copy: the pixels match the guest's picture" logged copy xen-zcopy map --from "$screen" --mechanism copy --verify smpte --dump /results/copy.raw

# The guest draws into a buffer of dom0.
xen-zcopy share --domain front --memory heap:system --width 1920 --height 1080 --publish canvas >/results/canvas.log 2>&1 &
canvas=$!
check "share through the daemon publishes a buffer" said /results/canvas.log "published at"
check "the guest draws into it" guest_run front 60 "xen-zcopy map --from /local/domain/0/data/zcopy/canvas --draw smpte"
kill -INT $canvas
wait $canvas
check "the buffer is closed when the peer has released it" is_listed 0

# dom0 draws into a buffer of the guest: into gntdev's dma-buf with requests to the daemon, into a copy through its dma-buf.
guest_start front slate xen-zcopy share --domain 0 --width 640 --height 480 --publish slate --verify smpte
guest_says front slate 30 "published at"
# draws MECHANISM: dom0 draws, and the guest verifies the picture. The guest prints this once for each frame reported as used.
draws() {
  local before
  before=$(grep -c "is the pattern smpte" /results/front.slate.log)
  logged "slate.$1" xen-zcopy map --from "/local/domain/$domid/data/zcopy/slate" --mechanism "$1" --draw smpte --verify smpte &&
    grep -q " by $1" "/results/slate.$1.log" &&
    wait_for 20 sh -c "[ \$(grep -c 'is the pattern smpte' /results/front.slate.log) -gt $before ]"
}
for mechanism in dmabuf copy cpu; do
  check "map --draw --mechanism $mechanism through the daemon: the guest reads the picture" draws $mechanism
done
guest_kill front slate TERM

xen-zcopy share --domain front --memory heap:system --size 65536 --pattern counting --publish pool --frames 8 --fps 5 \
  --pool 192K >/results/pool.log 2>&1 &
pool=$!
said /results/pool.log "published at"
check "share --pool through the daemon: the guest reads complete frames" \
  guest_run front 60 "xen-zcopy map --from /local/domain/0/data/zcopy/pool --follow --verify counting"
wait $pool
status=$?
check "share --pool ends after the last frame" [ $status = 0 ]

# Memory without a dma-buf: requests to the daemon fill it before it is published.
xen-zcopy share --domain front --memory gntalloc --width 320 --height 240 --pattern smpte --publish plain >/results/plain.log 2>&1 &
plain=$!
said /results/plain.log "published at"
check "share --memory gntalloc through the daemon: the guest reads the picture" \
  guest_run front 60 "xen-zcopy map --from /local/domain/0/data/zcopy/plain --verify smpte"
check "list prints the buffer of gntalloc" sh -c "xen-zcopy list | grep -q gntalloc"
kill -INT $plain
wait $plain

# Backend-allocated mode: this process offers the directory, the guest fills it, the daemon maps the listed pages.
xen-zcopy map --domain front --offer-directory --size 40000 --verify counting >/results/offer.log 2>&1 &
offer=$!
said /results/offer.log "directory"
offered=$(sed -nE 's/.*directory ([0-9]+).*/\1/p' /results/offer.log | head -n 1)
guest_start front fill xen-zcopy share --domain 0 --size 40000 --pattern counting --into-directory "$offered"
wait $offer
status=$?
check "map --offer-directory through the daemon maps the pages that the guest lists" [ $status = 0 ]
guest_kill front fill TERM

larger() {
  ! xen-zcopy map --from "$screen" --max-size 1M >/results/larger.log 2>&1 &&
    grep -q "raise --max-size" /results/larger.log && is_listed 0
}
check "map --max-size refuses a larger buffer and releases it" larger

# --- Upgrade and restart ----------------------------------------------------------

start_backend
said /results/backend.log "^mapped" || bail_out "the backend maps no buffer"
xen-zcopy map --from "$screen" >/results/held.log 2>&1 &
held=$!
said /results/held.log "^mapped" || bail_out "map holds no buffer"
# Buffers without a dma-buf: frames that only the CPU maps, and memory of gntalloc.
guest_start front ticks xen-zcopy share --domain 0 --size 65536 --pattern counting --publish ticks --frames 60 --fps 2
guest_says front ticks 30 "published at"
xen-zcopy map --from "/local/domain/$domid/data/zcopy/ticks" --mechanism cpu --follow --verify counting >/results/ticks.log 2>&1 &
ticks=$!
said /results/ticks.log "^mapped"
xen-zcopy share --domain front --memory gntalloc --size 40000 --pattern counting --publish kept >/results/kept.log 2>&1 &
kept=$!
said /results/kept.log "published at"
is_listed 4
ids >/results/ids.before
peers() { guest_output front screen | grep -c "has ended\|has released\|has mapped"; }
peers_before=$(peers)
pid=$(pidof xen-zcopyd)
kill -USR2 "$pid"
upgraded() { [ "$(grep -c '^ready' /results/daemon.log)" = 2 ] && [ "$(pidof xen-zcopyd)" = "$pid" ]; }
check "SIGUSR2: the daemon restarts in the same process" wait_for 10 upgraded
same_ids() { ids >/results/ids.after && cmp /results/ids.before /results/ids.after; }
check "the daemon has the same buffers as before SIGUSR2" same_ids
kill -TERM $manager
restarted() { [ "$(grep -c '^ready' /results/daemon.log)" = 3 ] && [ "$(pidof xen-zcopyd)" != "$pid" ]; }
check "the service manager starts a new daemon after SIGTERM" wait_for 10 restarted
check "the new daemon has the same buffers" same_ids
unnoticed() { [ "$(peers)" = "$peers_before" ] || guest_output front screen; [ "$(peers)" = "$peers_before" ]; }
check "the guest has seen no end, release or new map" unnoticed
check "the clients still run" kill -0 $held $backend
check "memory of gntalloc is still shared" guest_run front 60 \
  "xen-zcopy map --from /local/domain/0/data/zcopy/kept --verify counting"
kill -INT $kept
wait $kept
wait $ticks
status=$?
check "map --mechanism cpu --follow continues to the last frame" \
  sh -c "[ $status = 0 ] && grep -q 'frame 60' /results/ticks.log"
kill -INT $held
wait $held
status=$?
check "a buffer mapped before the upgrade is released after it, and the guest is notified" \
  sh -c "[ $status = 0 ] && grep -q 'notified its owner' /results/held.log"

# --- Death ------------------------------------------------------------------------

before=$(descriptors)
kill -9 $backend
exec 7>&-
check "a killed backend leaves no buffer" is_listed 0
fewer() { [ "$(descriptors)" -lt "$before" ]; }
check "the daemon then has fewer open descriptors" wait_for 5 fewer
status=$(sed -n 's/^VmRSS:[^0-9]*\([0-9]*\).*/\1/p' "/proc/$(pidof xen-zcopyd)/status")
note "the daemon has $status KiB resident, $(descriptors) descriptors"
check "the daemon has less than 24000 KiB of resident memory" [ "$status" -lt 24000 ]

xen-zcopy map --from "$screen" >/results/orphan.log 2>&1 &
held=$!
said /results/orphan.log "^mapped"
kill -9 "$(pidof xen-zcopyd)"
wait $held
check "the client of a killed daemon reports the closed connection and ends" grep -q "has closed the connection" /results/orphan.log
check "the guest reports that its peer ended without releasing the buffer" guest_says front screen 10 "ended without releasing"
wait $manager
starts
started_again() { [ "$(grep -c '^ready' /results/daemon.log)" = 4 ]; }
check "the next daemon starts with the same socket" wait_for 10 started_again
check "the next daemon serves a map" logged again xen-zcopy map --from "$screen" --verify smpte

# --- A backend in Swift, without the daemon ---------------------------------------

guest_start front video xen-zcopy share --domain 0 --size 8294400 --pattern counting --publish video --frames 10 --fps 10
guest_says front video 30 "published at"
follows() {
  logged example zcopy-example "/local/domain/$domid/data/zcopy/video" 10 &&
    grep -q "^frame 10 " /results/example.log && grep -q "^returned after" /results/example.log
}
check "a backend that uses the engine as a library follows a guest's frames and returns the buffer" follows

start_backend
said /results/backend.log "^mapped"
guest_destroy front
check "the backend is notified that the guest was destroyed, and releases the buffer" said /results/backend.log "^destroyed"
wait $backend
exec 7>&-

# --- Nothing is left --------------------------------------------------------------

kill -INT $manager
wait $manager
status=$?
gone() { ! xl list | grep -qE "^(front|\(null\)) "; }
nothing_left() { [ $status = 0 ] && [ ! -e /run/xen-zcopyd/socket ] && wait_for 10 gone; }
check "the daemon ends with status 0, and no mapping holds a page of the guest" nothing_left
check "the grants in use are the same as before" grants_as_kept
