# Tests how Linux handles dma-bufs, memory files and fences: in each kind of domain the same as without Xen.
. /host/lib/dom0.sh
plan 3

contract() {
  "$@" >"/results/contract.$name.tap" 2>&1
  local status=$?
  note "$name: $(grep -c '^ok .*' "/results/contract.$name.tap") of $(sed -n 's/^1\.\.//p' "/results/contract.$name.tap")," \
    "$(grep -c '# SKIP' "/results/contract.$name.tap") of them skipped"
  [ $status = 0 ] && return
  grep -E '^(not ok|#|Bail)' "/results/contract.$name.tap"
  return 1
}
name=dom0 check "the contract about dma-bufs passes in dom0" contract xen-zcopy-contract --dma-buf
guest_create pvh modules=vgem || bail_out "no PVH guest"
name=pvh check "the contract about dma-bufs passes in a PVH guest" contract guest_run pvh 60 xen-zcopy-contract --dma-buf
guest_destroy pvh
guest_create pv type=pv modules=vgem || bail_out "no PV guest"
name=pv check "the contract about dma-bufs passes in a PV guest" contract guest_run pv 60 xen-zcopy-contract --dma-buf
