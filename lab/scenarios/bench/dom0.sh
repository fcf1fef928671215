# Maps, shares and copies buffers, alternating between the library and Benchmarks/Sources/Floor, and maps them through the
# daemon. Compares the lower quartiles.
. /host/lib/dom0.sh

note "dom0's clock: $(cat /sys/devices/system/clocksource/clocksource0/current_clocksource)"
xen-zcopyd >/results/daemon.log 2>&1 &
wait_for 10 test -S /run/xen-zcopyd/socket || bail_out "no daemon"
guest_create owner || bail_out "no guest"
buffers=
for pages in 1 256 2025 8100; do
  guest_start owner "share-$pages" xen-zcopy share --domain 0 --size $((pages * 4096))
  guest_says owner "share-$pages" 30 directory || bail_out "the guest shares no buffer"
  buffers="$buffers $(guest_output owner "share-$pages" | sed -n 's/.*directory \([0-9]*\);.*/\1/p'):$pages"
done
xen-zcopy-bench 15 "$domid" $buffers >&3
