# The lab's own test: dom0, its services, a guest, and commands in it.
. /host/lib/dom0.sh
plan 1
check "xl info" xl info
dmesg
