. /host/lib/dom0.sh
plan 1
guest_create owner || bail_out "no guest"
strace -f -r -T -o /tmp/strace.log xen-zcopy-bench 2 "$domid" >/tmp/strace.out 2>&1
cp /tmp/strace.* /results/
ok done
