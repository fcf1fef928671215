# Tests both directions in one boot. A guest shares a 1920x1080 test picture; dom0 maps it as a dma-buf and writes it to a
# file. Then dom0 shares a dma-buf of its own; the guest draws into it, and dom0 writes it to a file.
. /host/lib/dom0.sh
plan 8

check "xen-zcopy doctor reports that mapping works in dom0" xen-zcopy doctor || bail_out "dom0 cannot map"
guest_create demo || bail_out "no guest"

# said LOG: prints the output of a program as TAP comments.
said() { sed 's/^/# /' "$1" >&3; }

guest_start demo share xen-zcopy share --domain 0 --pattern smpte --publish screen
guest_says demo share 30 "published at" || bail_out "the guest shares no buffer"
ok "the guest shares a test picture: $(guest_output demo share | head -n1)"
if xen-zcopy map --from "/local/domain/$domid/data/zcopy/screen" --dump /results/guest.png \
  >/results/map.log 2>&1; then
  ok "dom0 maps it as a dma-buf and writes guest.png"
  said /results/map.log
else
  not_ok "dom0 maps it as a dma-buf and writes guest.png" "$(cat /results/map.log)"
fi
guest_kill demo share TERM
check "the guest ends its share" guest_wait demo share 20

xen-zcopy share --domain demo --width 1920 --height 1080 --publish canvas --dump /results/dom0.png \
  >/results/share.log 2>&1 &
share=$!
wait_for 20 grep -q "published at" /results/share.log || bail_out "dom0 shares no buffer: $(cat /results/share.log)"
ok "dom0 shares an empty buffer: $(head -n1 /results/share.log)"
check "the guest maps it as a dma-buf and draws into it" \
  guest_run demo 60 xen-zcopy map --from /local/domain/0/data/zcopy/canvas --draw smpte
check "dom0 writes dom0.png" wait_for 20 [ -s /results/dom0.png ]
said /results/demo.log
kill -TERM $share
if wait $share; then
  ok "dom0 ends its share"
  said /results/share.log
else
  not_ok "dom0 ends its share" "$(cat /results/share.log)"
fi
