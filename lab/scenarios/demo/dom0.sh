# A guest shares a 1920x1080 test picture; dom0 maps it as a dma-buf and writes down what it shows.
. /host/lib/dom0.sh
plan 4

check "xen-zcopy doctor says that mapping works here" xen-zcopy doctor || bail_out "no mapping here"
guest_create demo || bail_out "no guest"
guest_start demo share xen-zcopy share --domain 0 --pattern smpte --publish screen
guest_says demo share 30 "published at" || bail_out "the guest shares nothing"
ok "the guest shares a test picture: $(guest_output demo share | head -n1)"

if xen-zcopy map --from "/local/domain/$domid/data/zcopy/screen" --dump /results/guest.png \
  >/results/map.log 2>&1; then
  ok "dom0 maps it as a dma-buf and writes guest.png"
  sed 's/^/# /' /results/map.log >&3
else
  not_ok "dom0 maps it as a dma-buf and writes guest.png" "$(cat /results/map.log)"
fi

guest_kill demo share TERM
check "the guest takes its picture back" guest_wait demo share 20
