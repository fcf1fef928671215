. /host/lib/dom0.sh
plan 1
guest_create owner || bail_out "no guest"
guest_start owner share xen-zcopy share --domain 0 --size 400K --pattern counting --publish p
guest_says owner share 20 published
strace -f -s 200 -o /results/strace.log xen-zcopy map --from /local/domain/$domid/data/zcopy/p >/results/map.log 2>&1 &
sleep 4
kill %%
ok x
