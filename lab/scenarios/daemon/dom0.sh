# Tests the daemon with a display backend in C that contains no code for Xen and gets a guest's buffers from the daemon. An
# upgrade and a restart of the daemon lose nothing, and no guest notices them. The death of the backend, of the guest or of
# the daemon leaves nothing behind.
. /host/lib/dom0.sh
plan 49

size=8294400
said() { wait_for 20 grep -q -e "$2" "$1" || { cat "$1"; return 1; }; }
# What a command prints, kept for who looks afterwards.
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
check "the configuration is in order" logged check xen-zcopyd --check --config /run/xen-zcopyd.conf
starts() { fd-store /run/notify xen-zcopyd --keep --config /run/xen-zcopyd.conf >>/results/daemon.log 2>&1 & manager=$!; }
starts
check "the daemon starts" said /results/daemon.log "^ready" || bail_out "no daemon"
keep_grants

guest_create front || bail_out "no guest"
guest_start front screen xen-zcopy share --domain 0 --pattern smpte --publish screen
guest_says front screen 30 "published at" || bail_out "the guest shares nothing"
screen=/local/domain/$domid/data/zcopy/screen
directory=$(xenstore-read "$screen/directory")

# --- A backend in C ---------------------------------------------------------------

trap '' PIPE
# What it reads from this pipe is what its frontend wants.
mkfifo /run/wants
start_backend() {
  : >/results/backend.log
  backend --importer /dev/lab-importer "$domid" "$directory" $size 1920 1080 </run/wants >>/results/backend.log 2>&1 &
  backend=$!
  exec 7>/run/wants
}
start_backend
check "the backend gets the guest's 1080p buffer, which is not copied" said /results/backend.log "2025 pages of domain $domid, not copied"
check "and hands it to a device" said /results/backend.log "^imported"
check "list shows the buffer" is_listed 1
id=$(ids)
describes() {
  logged describe xen-zcopy describe "$id" && grep -q "$backend\|backend" /results/describe.log && grep -q dmabuf /results/describe.log
}
check "describe says by which mechanism, and who holds it" describes
check "stats say what Xen lets this domain map" sh -c "xen-zcopy stats >/results/stats.log && grep 'pages that Xen allows' /results/stats.log"
check "top shows it" sh -c "xen-zcopy top --once >/results/top.log && grep -q $(echo "$id" | cut -c1-8) /results/top.log"
echo destroy >&7
check "the backend lets go, and is told when nobody holds the buffer" said /results/backend.log "^destroyed"
check "list shows nothing any more" is_listed 0
exec 7>&-
wait $backend

# --- What a map costs -------------------------------------------------------------

# The system calls of a map: of one in this process, then all in the daemon from its wait to its reply, then of the C client. Not
# the clock, which takes none elsewhere; nor the daemon's log, which says nothing of maps unless it is told to; nor what it asks
# XenStore if its watches' timer has ticked, which it does four times a second, between the poll and the opening of the device.
counts() {
  awk '/gntdev"/ { inside = 1 } inside && /gntdev"|GNTDEV|AT_EMPTY_PATH/ { count++ } inside && /AT_EMPTY_PATH/ { exit }
    END { print count }' /results/direct.strace
  awk '/recvmsg.*iov_base="\\2\\0\\0\\0/ { inside = 1; count = 1 } /gntdev"/ { ticked = 0 }
    inside && !ticked && !/^clock_gettime|^write\(2,/ { count++ } /^poll.* = 1 / { ticked = 1 }
    inside && /^sendmsg/ { exit } END { print count }' /results/daemon.strace
  awk '/^write\(1,/ { inside = 0 } /^sendmsg.*iov_base="\\2\\0\\0\\0/ { inside = 1 }
    inside && !/^newfstatat\(1,/ { count++ } END { print count }' /results/client.strace
}
# By now the daemon watches the domain.
traced() {
  strace -o /results/direct.strace xen-zcopy map --direct --domain "$domid" --directory "$directory" --size $size \
    --exec true || return
  strace -p "$(pidof xen-zcopyd)" -o /results/daemon.strace 2>/results/strace.log &
  local tracer=$! status=0
  wait_for 5 grep -q attached /results/strace.log
  strace -o /results/client.strace backend "$domid" "$directory" $size 1920 1080 </dev/null >/results/client.log &
  local client=$!
  wait_for 10 grep -q ^mapped /results/client.log || status=$?
  # strace lets no signal end what it runs.
  kill -TERM "$(pidof backend)"
  wait $client
  kill $tracer
  wait $tracer
  return $status
}
check "a map is traced" traced
set -- $(counts)
note "system calls of a map: $1 directly; $2 in the daemon, and $3 in its client"
check "a map takes at most 6 system calls more in the daemon than directly" test "$2" -le $(($1 + 6))
check "and 2 in the client" test "$3" -le 2

# --- Contents and links -----------------------------------------------------------

check "map through the daemon: the pixels are the guest's" \
  logged pixels xen-zcopy map --from "$screen" --verify smpte --dump /results/daemon.png
program='[ -n "$ZCOPY_FD" ] && readlink /proc/self/fd/$ZCOPY_FD'
check "a program inherits the dma-buf" sh -c "xen-zcopy map --from $screen --exec sh -c '$program' | grep -q dmabuf"
check "the guest is told of the release each time" wait_for 10 sh -c "grep -c 'has released' /results/front.screen.log | grep -qx 2"
check "and by copy" logged copy xen-zcopy map --from "$screen" --mechanism copy --verify smpte --dump /results/copy.raw

# A buffer of dom0, drawn into by the guest.
xen-zcopy share --domain front --memory heap:system --width 1920 --height 1080 --publish canvas >/results/canvas.log 2>&1 &
canvas=$!
check "share through the daemon" said /results/canvas.log "published at"
check "the guest draws into it" guest_run front 60 "xen-zcopy map --from /local/domain/0/data/zcopy/canvas --draw smpte"
kill -INT $canvas
wait $canvas
check "and it is over when the peer has let go" is_listed 0

# A buffer of the guest, drawn into by dom0: into gntdev's dma-buf by requests, into a copy by its dma-buf.
guest_start front slate xen-zcopy share --domain 0 --width 640 --height 480 --publish slate --verify smpte
guest_says front slate 30 "published at"
# draws MECHANISM: the guest finds the new picture. It says so once for each frame that is reported as used.
draws() {
  local before
  before=$(grep -c "is the pattern smpte" /results/front.slate.log)
  logged "slate.$1" xen-zcopy map --from "/local/domain/$domid/data/zcopy/slate" --mechanism "$1" --draw smpte --verify smpte &&
    grep -q " by $1" "/results/slate.$1.log" &&
    wait_for 20 sh -c "[ \$(grep -c 'is the pattern smpte' /results/front.slate.log) -gt $before ]"
}
for mechanism in dmabuf copy cpu; do
  check "map --draw --mechanism $mechanism reaches the guest through the daemon" draws $mechanism
done
guest_kill front slate TERM

xen-zcopy share --domain front --memory heap:system --size 65536 --pattern counting --publish pool --frames 8 --fps 5 \
  --pool 192K >/results/pool.log 2>&1 &
pool=$!
said /results/pool.log "published at"
check "share --pool through the daemon: the guest sees whole frames" \
  guest_run front 60 "xen-zcopy map --from /local/domain/0/data/zcopy/pool --follow --verify counting"
wait $pool
status=$?
check "and it ends after the last frame" [ $status = 0 ]

# Memory that is no dma-buf: filled by requests before it is published.
xen-zcopy share --domain front --memory gntalloc --width 320 --height 240 --pattern smpte --publish plain >/results/plain.log 2>&1 &
plain=$!
said /results/plain.log "published at"
check "share --memory gntalloc through the daemon: the guest sees the picture" \
  guest_run front 60 "xen-zcopy map --from /local/domain/0/data/zcopy/plain --verify smpte"
check "and list shows it" sh -c "xen-zcopy list | grep -q gntalloc"
kill -INT $plain
wait $plain

# Backend-allocated mode: this process offers the directory, the guest fills it, the daemon maps what is listed there.
xen-zcopy map --domain front --offer-directory --size 40000 --verify counting >/results/offer.log 2>&1 &
offer=$!
said /results/offer.log "directory"
offered=$(sed -nE 's/.*directory ([0-9]+).*/\1/p' /results/offer.log | head -n 1)
guest_start front fill xen-zcopy share --domain 0 --size 40000 --pattern counting --into-directory "$offered"
wait $offer
status=$?
check "map --offer-directory through the daemon maps what the guest lists" [ $status = 0 ]
guest_kill front fill TERM

larger() {
  ! xen-zcopy map --from "$screen" --max-size 1M >/results/larger.log 2>&1 &&
    grep -q "raise --max-size" /results/larger.log && is_listed 0
}
check "map --max-size gives a larger buffer back" larger

# --- Upgrade and restart ----------------------------------------------------------

start_backend
said /results/backend.log "^mapped" || bail_out "the backend maps nothing"
xen-zcopy map --from "$screen" >/results/held.log 2>&1 &
held=$!
said /results/held.log "^mapped" || bail_out "map holds nothing"
# Buffers without a dma-buf: frames that only the processor maps, and memory of gntalloc.
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
check "the program takes its own place" wait_for 10 upgraded
same_ids() { ids >/results/ids.after && cmp /results/ids.before /results/ids.after; }
check "with the same buffers" same_ids
kill -TERM $manager
restarted() { [ "$(grep -c '^ready' /results/daemon.log)" = 3 ] && [ "$(pidof xen-zcopyd)" != "$pid" ]; }
check "the service manager starts it anew" wait_for 10 restarted
check "with the same buffers too" same_ids
unnoticed() { [ "$(peers)" = "$peers_before" ] || guest_output front screen; [ "$(peers)" = "$peers_before" ]; }
check "the guest has noticed nothing" unnoticed
check "nor have the clients" kill -0 $held $backend
check "memory of gntalloc is still shared" guest_run front 60 \
  "xen-zcopy map --from /local/domain/0/data/zcopy/kept --verify counting"
kill -INT $kept
wait $kept
wait $ticks
status=$?
check "and what only the processor maps is followed to its last frame" \
  sh -c "[ $status = 0 ] && grep -q 'frame 60' /results/ticks.log"
kill -INT $held
wait $held
status=$?
check "what was mapped before is released after, and the guest is told" \
  sh -c "[ $status = 0 ] && grep -q 'notified its owner' /results/held.log"

# --- Death ------------------------------------------------------------------------

before=$(descriptors)
kill -9 $backend
exec 7>&-
check "a backend that is killed leaves nothing" is_listed 0
fewer() { [ "$(descriptors)" -lt "$before" ]; }
check "and no descriptor in the daemon" wait_for 5 fewer
status=$(sed -n 's/^VmRSS:[^0-9]*\([0-9]*\).*/\1/p' "/proc/$(pidof xen-zcopyd)/status")
note "the daemon has $status KiB resident, $(descriptors) descriptors"
check "the daemon has less than 24 MB resident" [ "$status" -lt 24000 ]

xen-zcopy map --from "$screen" >/results/orphan.log 2>&1 &
held=$!
said /results/orphan.log "^mapped"
kill -9 "$(pidof xen-zcopyd)"
wait $held
check "a daemon that is killed: its client says so and ends" grep -q "has closed the connection" /results/orphan.log
check "and the guest learns that its peer has ended" guest_says front screen 10 "ended without releasing"
wait $manager
starts
started_again() { [ "$(grep -c '^ready' /results/daemon.log)" = 4 ]; }
check "the next daemon takes the socket over" wait_for 10 started_again
check "and serves" logged again xen-zcopy map --from "$screen" --verify smpte

# --- A backend in Swift, without the daemon ---------------------------------------

guest_start front video xen-zcopy share --domain 0 --size 8294400 --pattern counting --publish video --frames 10 --fps 10
guest_says front video 30 "published at"
follows() {
  logged example zcopy-example "/local/domain/$domid/data/zcopy/video" 10 &&
    grep -q "^frame 10 " /results/example.log && grep -q "^returned after" /results/example.log
}
check "a backend that uses the engine as a library follows a guest's frames and gives the buffer back" follows

start_backend
said /results/backend.log "^mapped"
guest_destroy front
check "a guest that is destroyed: the backend is told, and lets go" said /results/backend.log "^destroyed"
wait $backend
exec 7>&-

# --- Nothing left -----------------------------------------------------------------

kill -INT $manager
wait $manager
status=$?
gone() { ! xl list | grep -qE "^(front|\(null\)) "; }
nothing_left() { [ $status = 0 ] && [ ! -e /run/xen-zcopyd/socket ] && wait_for 10 gone; }
check "the daemon ends, and nobody holds a page of the guest" nothing_left
check "Xen's grant tables are as they were" grants_as_kept
