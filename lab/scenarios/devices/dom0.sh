# Tests three devices: one that reads through the scatter list (lab-importer), a screen (virtio-gpu), and one whose fences
# stay pending until the scenario ends them (vgem). The devices must see the guest's memory, and no memory may be released
# while a device uses it.
. /host/lib/dom0.sh
plan 14

guest_create front || bail_out "no guest"
home=/local/domain/$domid/data/zcopy
size=8294400
keep_grants

crc() { sed -n 's/.*crc32c=\([0-9a-fx]*\).*/\1/p' "$1" | tail -n1; }
guest_crc() { guest_run front 30 "lab-import --file $1 $2" >/tmp/crc.out && crc /tmp/crc.out; }
said() { wait_for 30 grep -q -e "$2" "$1" || { cat "$1"; return 1; }; }

# --- The scatter list, both ways ------------------------------------------------

guest_run front 30 "head -c $size /dev/urandom >/tmp/random"
guest_start front file "xen-zcopy share --domain 0 --file /tmp/random --publish file"
guest_says front file 30 "published at" || bail_out "the guest shares no buffer"
sees_theirs() {
  xen-zcopy map --from "$home/file" --mechanism "$1" --exec lab-import >"/results/theirs.$1.log" 2>&1
  note "$1: $(grep segments "/results/theirs.$1.log")"
  [ "$(crc "/results/theirs.$1.log")" = "$(guest_crc /tmp/random $size)" ] || { cat "/results/theirs.$1.log"; return 1; }
}
check "a device reads the guest's pages through the dma-buf" sees_theirs dmabuf
check "a device reads a copy of the guest's pages through the udmabuf" sees_theirs copy

# The guest draws into dom0's buffer; the device reads the buffer after the guest has finished.
sees_ours() {
  rm -f /tmp/drawn
  xen-zcopy share --domain front --memory "$1" --width 1920 --height 1080 --publish ours --dump "/results/ours.png" \
    --exec sh -c 'until [ -e /tmp/drawn ]; do usleep 50000; done; lab-import' >"/results/ours.$1.log" 2>&1 &
  local share=$!
  said "/results/ours.$1.log" "published at" || return
  guest_run front 60 "xen-zcopy map --from /local/domain/0/data/zcopy/ours --draw smpte --dump /tmp/drawn.raw" || return
  touch /tmp/drawn
  wait $share || { cat "/results/ours.$1.log"; return 1; }
  note "$1: $(grep segments "/results/ours.$1.log")"
  [ "$(crc "/results/ours.$1.log")" = "$(guest_crc /tmp/drawn.raw $size)" ] || { cat "/results/ours.$1.log"; return 1; }
}
check "a device reads the guest's drawing from the system heap" sees_ours heap:system
check "a device reads the guest's drawing from udmabuf" sees_ours udmabuf

# --- The guest draws into a screen's buffer --------------------------------------

# Backend-allocated mode, as in displif: the guest creates the directory, dom0 lists a screen's buffer in it.
screen_bytes=$((1024 * 768 * 4))
guest_start front offer "xen-zcopy map --domain 0 --offer-directory --size $screen_bytes --width 1024 --height 768 --draw smpte"
guest_says front offer 30 "waits for" || bail_out "the guest offers no directory"
directory=$(guest_output front offer | sed -n 's/^directory \([0-9]*\) .*/\1/p')
drm-dumb --show 1024 768 sh -c "echo \$\$ >/run/screen.pid
  exec xen-zcopy share --domain front --memory fd:\$ZCOPY_DUMB_FD --into-directory $directory" \
  >/results/screen.log 2>&1 &
screen=$!
check "dom0 lists a screen's buffer in the guest's directory" said /results/screen.log "^shared"
check "the guest maps the screen's buffer through the directory and draws" guest_wait front offer 60
# drm-dumb makes virtio-gpu copy the buffer to the screen twenty times a second.
sleep 0.5
check "a screenshot of the screen is saved" screenshot screen.png
kill "$(cat /run/screen.pid)"
wait $screen

too_few() {
  local status=0
  guest_start front few "xen-zcopy map --domain 0 --offer-directory --size 4096"
  guest_says front few 30 "waits for" || return
  directory=$(guest_output front few | sed -n 's/^directory \([0-9]*\) .*/\1/p')
  xen-zcopy share --domain front --memory udmabuf --size 8M --into-directory "$directory" >/results/few.log 2>&1 || status=$?
  cat /results/few.log
  guest_kill front few TERM
  [ $status = 1 ] && [ "$(wc -l </results/few.log)" = 1 ] && grep -q "has 1 pages, and .* need 3" /results/few.log
}
check "a directory with too few pages is refused in one line" too_few

# --- Fences -----------------------------------------------------------------------

# A pool: the owner continues to draw into free parts while a frame is in use.
guest_start front frames "xen-zcopy share --domain 0 --size 1M --pattern counting --publish frames --frames 1000 --fps 5 --pool 8M --json"
guest_says front frames 30 "published\|\"path\"" || bail_out "the guest shares no frames"
used() { guest_output front frames | sed -n 's/.*"frame-used","frame":\([0-9]*\).*/\1/p' | tail -n1; }
xen-zcopy map --from "$home/frames" --follow --exec xen-zcopy-contract --read-until /tmp/read \
  >/results/fences.log 2>&1 &
map=$!
frames() { grep -c '^frame ' /results/fences.log; }
check "a device reads the guest's buffer with a pending fence" said /results/fences.log "^reading"
# No frame after the last one before the fence may be reported as used. The guest's output arrives late on a slow host, so
# that the reports of earlier frames are still allowed. New frames arrive until the pool is full. vgem ends a fence after 10 s.
before=$(sed '/^reading/q' /results/fences.log | sed -n 's/^frame \([0-9]*\).*/\1/p' | tail -n 1) drawn=$(frames)
usleep 1500000
reported=$(used) seen=$(frames)
touch /tmp/read
no_use() {
  echo "last frame before the fence: $before; last frame reported as used: $reported; frames seen: $drawn, then $seen"
  [ "$reported" -le "$before" ] && [ "$seen" -gt "$drawn" ]
}
check "while the fence is pending, frames arrive and none is reported as used" no_use
wait $map && ok "the device's work ends, and map releases the buffer and ends" ||
  not_ok "the device's work ends, and map releases the buffer and ends" "$(cat /results/fences.log)"
reports_later_frame() { [ "$(used)" -gt "$before" ]; }
check "the guest is notified of used frames after the device has finished" wait_for 10 reports_later_frame
guest_kill front frames TERM
guest_wait front frames 30

# --- A device that keeps a buffer ------------------------------------------------

late() {
  local status=0
  xen-zcopy map --from "$home/file" --release-timeout 2 --exec lab-import --hold 6000 >/results/late.log 2>&1 || status=$?
  cat /results/late.log
  [ $status = 75 ] && grep -q "not released in time: it is held by .*importer" /results/late.log
}
check "map reports that a buffer is not released in time and names the device that holds it" late
note "$(tail -n1 /results/late.log)"
guest_kill front file TERM
guest_wait front file 30
check "the grants in use are the same as before after the device has released the buffer" wait_for 20 grants_as_kept
