# Transfers buffers between dom0 and a guest, in both directions, thousands of times, and kills the process that does so one
# time in ten. Afterwards no grant, mapping, dma-buf, descriptor, node or memory may be left.
. /host/lib/dom0.sh
plan 18

argument() { sed -n "s/.*soak\.$1=\([0-9]*\).*/\1/p" /proc/cmdline; }
cycles=$(argument cycles)
seed=$(argument seed)

# soak SEED CYCLES: runs the soak test on both sides; each side prints its test results.
soak() {
  guest_start owner soak xen-zcopy-soak --guest "$1" "$2"
  guest_says owner soak 30 ready || { guest_output owner soak; return 1; }
  xen-zcopy-soak --dom0 "$1" "$2" "$domid" >/results/soak.log 2>&1
  local status=$?
  guest_wait owner soak 60 || status=$?
  return $status
}
# verdicts: reports the test results of both sides as results of this scenario.
verdicts() {
  cat /results/soak.log "/results/owner.soak.log" | while read -r line; do
    case $line in
      "ok - "*) echo "ok ${line#ok - }" ;;
      "not ok - "*) echo "not_ok ${line#not ok - }" ;;
      *) echo "note ${line#\# }" ;;
    esac
  done >/tmp/verdicts
  while read -r verdict text; do "$verdict" "$text"; done </tmp/verdicts
}

mapped() { xen_grants | grep -E '\[0x|^ *\(XEN\) *\[ *[0-9]'; }
nodes() { xenstore-ls -f | sed 's/ = .*//' | sort; }
dma_bufs() { sed -n 's/^Total \([0-9]*\) .*/\1/p' /sys/kernel/debug/dma_buf/bufinfo; }
look() {
  mapped >"/results/mapped.$1"
  nodes >"/results/nodes.$1"
  dma_bufs >"/results/dma-bufs.$1"
}
same() { diff "/results/$1.before" "/results/$1.after"; }

guest_create owner memory=384 || bail_out "no guest"
# The lab's kernels free all grants that a peer releases late at once. Set Linux's default, ten a second.
slowly="echo 10 >/sys/module/grant_table/parameters/free_per_iteration"
eval "$slowly"
guest_run owner "$slowly"
# The first run creates objects that stay: a directory in XenStore, the kernel's caches.
check "a short soak passes" soak "$((seed + 1))" 100 ||
  { cat /results/soak.log; guest_output owner soak; bail_out "the short soak failed"; }
look before
check "a soak of $cycles cycles passes" soak "$seed" "$cycles"
verdicts
look after
check "Xen lists the same grants in use, with the same mappings, as before" same mapped
check "XenStore has the same nodes as before" same nodes
check "dom0 has as many dma-bufs as before" same dma-bufs
grep -h 'maptrack' /results/xen.log | tail -n 2 | while read -r line; do note "$line"; done
# The kernel logs this for a grant that it could not end for a minute.
pending="dmesg | grep -c 'still pending'"
note "grants that could not be ended for a minute: dom0's $(eval "$pending"), the guest's $(guest_run owner 20 "$pending")"

guest_destroy owner
gone() { ! xl list | grep -qE "^(owner|\(null\)) "; }
check "the destroyed guest is freed: no mapping holds a page of it" wait_for 10 gone
