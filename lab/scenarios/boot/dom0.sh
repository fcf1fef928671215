# Tests the lab itself: dom0, a guest, and commands in the guest. Nothing of the guest may be left afterwards.
. /host/lib/dom0.sh
plan 13

boots_as() { dmesg | grep -q "Booting .*kernel on Xen$1"; }
fails_with() {
  local expected=$1 status=0
  shift
  "$@" || status=$?
  [ $status = "$expected" ]
}
prints() {
  local expected=$1 output
  shift
  output=$("$@")
  echo "printed: $output"
  [ "$output" = "$expected" ]
}

check "dom0 is $dom0" boots_as "$([ "$dom0" = pv ] || echo ' PVH')"
check "XenStore answers" prints Domain-0 xenstore-read /local/domain/0/name
if [ "$dom0" = pvh ]; then
  check "gntdev exports and imports dma-bufs" prints "export usable
import usable" gntdev-probe
else
  check "gntdev imports dma-bufs, and refuses to export them in a PV domain" prints "export refused
import usable" gntdev-probe
fi

check "a guest comes up" guest_create one ||
  bail_out "no guest"
check "a command's output is returned" prints "one and two" guest_run one 10 "echo one and two"
check "a command's exit status is returned" fails_with 3 guest_run one 10 "exit 3"
check "a command that takes too long is killed" fails_with 124 guest_run one 1 "sleep 60"
check "ten thousand lines of output are returned complete" prints "10000 10000" \
  eval 'guest_run one 30 seq 10000 | awk "{n++} END {print n, \$0}"'

guest_start one waiting 'trap "echo told; exit 7" TERM; echo ready; while :; do sleep 0.1; done'
check "the output of a background command arrives while it runs" guest_says one waiting 10 ready
guest_kill one waiting TERM
check "a background command receives a signal, and its exit status is returned" fails_with 7 guest_wait one waiting 10
check "gntdev exports and imports dma-bufs in the guest" prints "export usable
import usable" guest_run one 10 gntdev-probe

check "the guest can be destroyed" guest_destroy one
check "no grant is left" eval 'xen_grants | grep -q "no active grant table entries"'
