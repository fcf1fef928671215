# Tests the data that a device finds in dma-bufs of dom0's own memory, of a screen, and of a guest.
. /host/lib/dom0.sh
plan 20
size=8294400

head -c $size /dev/urandom >/tmp/random
head -c 5000 /tmp/random >/tmp/short

# crc FILE [BYTES]: prints the checksum that a device must find.
crc() { lab-import --file "$@" | sed 's/.*crc32c=//'; }
filled() { tr '\0' "\\$(printf %o "$1")" </dev/zero | head -c "$2" >/tmp/filled && crc /tmp/filled; }
# finds CRC COMMAND...: succeeds if the command reports that a device found this checksum.
finds() {
  local expected=$1 line
  shift
  line=$("$@" 2>&1)
  echo "a device found: $line; expected $expected"
  note "$line"
  [ "${line##*crc32c=}" = "$expected" ]
}
expected=$(crc /tmp/random)

# --- dom0's own memory ------------------------------------------------------

check "a device reads a memfd's dma-buf" finds "$expected" lab-import --udmabuf /tmp/random
check "a device reads a memfd's dma-buf that is mapped for one direction only" finds "$expected" lab-import --udmabuf /tmp/random --direction to
check "a device reads zeroes after the end of the file" finds "$(crc /tmp/short 8192)" lab-import --udmabuf /tmp/short
check "a device reads a system heap buffer" finds "$expected" lab-import --heap /tmp/random
check "a device writes a system heap buffer" finds "$(filled 90 $size)" lab-import --heap /tmp/random --fill 90

# --- A screen ---------------------------------------------------------------

dumb=$((1024 * 768 * 4))
dumb() { drm-dumb 1024 768 sh -c "$1"; }
check "a device reads a dumb buffer" finds "$(crc /dev/null $dumb)" dumb 'lab-import $ZCOPY_DUMB_FD'
check "a device writes a dumb buffer" finds "$(filled 85 $dumb)" dumb 'lab-import --fill 85 $ZCOPY_DUMB_FD'

# The screen is grey, black and grey again, each until its screenshot is taken.
shots() {
  drm-dumb --show 1024 768 timeout 90 sh -c 'for shot in 1 2 3; do
    lab-import --fill $((shot % 2 * 85)) $ZCOPY_DUMB_FD && sleep 0.5 && touch /tmp/shot.$shot
    until [ -e /tmp/taken.$shot ]; do usleep 50000; done
  done' >/results/screen.log 2>&1 &
  for shot in 1 2 3; do
    wait_for 30 [ -e /tmp/shot.$shot ] && screenshot screen-$shot.png || { cat /results/screen.log; return 1; }
    touch /tmp/taken.$shot
  done
  wait $!
  ! cmp -s /results/screen-1.png /results/screen-2.png && cmp /results/screen-1.png /results/screen-3.png
}
check "a screen shows the data that a device writes" shots

# --- Guests -----------------------------------------------------------------

guest_create owner || bail_out "no guest"
guest_run owner 30 "head -c $size /dev/urandom >/tmp/random; head -c 5000 /tmp/random >/tmp/short"
theirs=$(guest_run owner 30 "lab-import --file /tmp/random" | sed 's/.*crc32c=//')
short=$(guest_run owner 30 "lab-import --file /tmp/short 8192" | sed 's/.*crc32c=//')
check "a device in a PVH guest reads a memfd's dma-buf" \
  finds "$short" guest_run owner 30 "lab-import --udmabuf /tmp/short"
guest_create pv type=pv memory=128 || bail_out "no PV guest"
no_device() {
  local status=0
  output=$(guest_run pv 20 "lab-import --udmabuf /etc/modprobe.d/lab.conf" 2>&1) || status=$?
  echo "$output"
  [ $status = 1 ] && [ "${output#*No such device}" != "$output" ]
}
check "a PV guest has no machine addresses for a device, and the import fails with ENODEV" no_device
check "the PV guest can be destroyed" guest_destroy pv

published() { echo "/local/domain/$domid/data/zcopy/$1"; }
domid=$(guest_domid owner)
share() {
  guest_start owner "$1" "xen-zcopy share --domain 0 --file /tmp/$1 --publish $1"
  guest_says owner "$1" 30 "published at"
}
imported() {
  local name=$1
  shift
  xen-zcopy map --from "$(published "$name")" --exec lab-import "$@" 2>&1 | tee -a /results/map.log | grep crc32c=
}
check "a guest shares a file" share random
check "a device in dom0 reads the contents of the guest's file" finds "$theirs" imported random
check "a device in dom0 writes the guest's buffer" finds "$(filled 165 $size)" imported random --fill 165

# Prints the checksum of the buffer as the guest sees it, in the memory of the sharing program. The program also maps the
# directory and the control page; the buffer is the mapping of 2025 pages.
seen() {
  guest_run owner 30 "pid=\$(pidof xen-zcopy)
    sed -n 's/^\\([0-9a-f]*\\)-\\([0-9a-f]*\\) .*gntalloc.*/\\1 \\2/p' /proc/\$pid/maps | while read from to; do
      [ \$((0x\$to - 0x\$from)) != $size ] ||
        dd if=/proc/\$pid/mem bs=4096 skip=\$((0x\$from / 4096)) count=$((size / 4096)) 2>/dev/null
    done >/tmp/seen
    lab-import --file /tmp/seen"
}
check "the guest reads the data that the device wrote" finds "$(filled 165 $size)" seen

check "a guest shares a file of 5000 bytes" share short
check "a device reads zeroes after the 5000 bytes" finds "$short" imported short

hundredths() { cut -d' ' -f1 /proc/uptime | tr -d .; }
held() {
  local start took
  start=$(hundredths)
  imported random --hold 2000 || return
  took=$(($(hundredths) - start))
  note "$(grep released /results/map.log | tail -n1); ${took}0 ms in all"
  [ $took -ge 200 ]
}
check "a buffer that a device holds is released only when the device releases it" held

check "the guest can be destroyed" guest_destroy owner
check "no grant is left" eval 'xen_grants | grep -q "no active grant table entries"'
