# Runs the contract about Xen, which the simulator must also satisfy: in dom0 alone, in a PV guest, in a PVH guest, and
# between a guest and dom0.
. /host/lib/dom0.sh
plan 4

contract() {
  "$@" >"/results/contract.$name.tap" 2>&1 && return
  grep -E '^(not ok|#)' "/results/contract.$name.tap"
  return 1
}
name=dom0 check "the contract suite passes in dom0 alone" contract xen-zcopy-contract
# A PV domain may map its own pages, so that the complete suite runs in one domain.
guest_create pv type=pv || bail_out "no PV guest"
name=pv check "the contract suite passes in a PV guest, including mapping" contract guest_run pv 300 xen-zcopy-contract
guest_destroy pv

guest_create owner || bail_out "no guest"
name=guest check "the contract suite passes in a PVH guest alone" contract guest_run owner 300 xen-zcopy-contract
guest_start owner contract xen-zcopy-contract --serve
name=both check "the contract suite passes between a guest and dom0" contract timeout 1200 xen-zcopy-contract --owner "$domid"
guest_kill owner contract TERM
