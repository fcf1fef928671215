#!/bin/bash
# qemu-zcopy-x86_64.sh XEN KERNEL INITRD
#
# Boots Xen with a PVH dom0 in QEMU, without KVM, and has dom0 run what must always work of xen-zcopy: a guest's buffer
# becomes a dma-buf, frames, the death of either side, and Xen's grant tables as they were before. INITRD is dom0's and
# has all of it, guests too (lab/xen-ci of xen-zcopy makes it); nothing is needed from a network or a disk.
#
# Exit status: 0, or 1 and one line that says why not. The serial log is smoke.serial in the current directory.
# TEST_TIMEOUT is in seconds, 900 by default.
set -eu -o pipefail

fatal() {
    echo "$(basename "$0"): $*" >&2
    exit 1
}

[ $# = 3 ] || fatal "usage: $(basename "$0") XEN KERNEL INITRD"
for file; do
    [ -r "$file" ] || fatal "cannot read $file"
    case $file in *[,\ ]*) fatal "QEMU takes no comma and no blank in the name $file" ;; esac
done
xen=$1 kernel=$2 initrd=$3
limit=${TEST_TIMEOUT:-900}
log=$PWD/smoke.serial

xen_options="console=com1 com1=115200,8n1 loglvl=all guest_loglvl=all noreboot=1 conring_size=1m"
xen_options+=" dom0=pvh dom0_mem=1536M,max:1536M dom0_max_vcpus=1 dom0_vcpus_pin"
# An emulated processor has nothing to hide from, and its IOMMU shares no page tables.
xen_options+=" iommu=no-sharept spec-ctrl=no bootscrub=0 watchdog=0 cpufreq=none"
dom0_options="console=hvc0 rdinit=/init quiet panic=-1 nokaslr mitigations=off audit=0"
# Looking for timers that a PVH domain does not have takes an emulated processor seconds.
dom0_options+=" clearcpuid=tsc lpj=4000000 pci=noearly initcall_blacklist=jent_mod_init,,init_acpi_pm_clocksource"
# Pages that a peer gives back late are freed in one go, so that it can be seen that none is left.
dom0_options+=" cryptomgr.notests ipv6.disable=1 grant_table.free_per_iteration=0"

qemu=
stop() {
    [ -z "$qemu" ] || kill "$qemu" 2>/dev/null || true
    [ -z "$qemu" ] || wait "$qemu" 2>/dev/null || true
    qemu=
}
trap stop EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

# run: until dom0 says how it went. 1: time was up, 2: a panic, 3: QEMU ended.
run() {
    local shown=0 end=$((SECONDS + limit)) lines
    : >"$log"
    qemu-system-x86_64 -accel tcg,thread=multi -cpu qemu64,+svm,+npt,+rdrand \
        -machine q35,kernel-irqchip=split -device intel-iommu,intremap=off -m 3072 -smp 2 \
        -nodefaults -display none -vga none -no-reboot -serial "file:$log" \
        -kernel "$xen" -append "$xen_options" -initrd "$kernel $dom0_options,$initrd" </dev/null 2>"$log.qemu" &
    qemu=$!
    while true; do
        # What dom0 says of the test, as it comes; a line of Xen's may be in the middle of it.
        lines=$(tr -d '\r' <"$log" | grep -a '^zcopy: ' || true)
        [ -z "$lines" ] || tail -n "+$((shown + 1))" <<<"$lines"
        [ -z "$lines" ] || shown=$(wc -l <<<"$lines")
        ! grep -aq '^zcopy: \(PASSED\|FAILED\)' <<<"$lines" || return 0
        ! grep -aqE 'Panic on CPU|Kernel panic - not syncing' "$log" || return 2
        kill -0 "$qemu" 2>/dev/null || return 3
        [ "$SECONDS" -lt "$end" ] || return 1
        sleep 1
    done
}

for try in {1..10}; do
    status=0
    run || status=$?
    stop
    # QEMU 7.2 gives dom0 a fault of the emulated processor now and then, at an address of Xen's own code: no result.
    if [ $status != 3 ] || ! grep -aq 'd0v0 Triple fault' "$log"; then break; fi
    echo "the emulated processor failed; once more, from the start (try $((try + 1)))"
done

case $status in
    0) ;;
    1) tail -n 15 "$log" >&2; fatal "not over after $limit seconds; the log is $log" ;;
    2) tail -n 15 "$log" >&2; fatal "Xen or a kernel panicked; the log is $log" ;;
    3) tail -n 15 "$log" >&2; fatal "QEMU ended by itself ($(tail -n1 "$log.qemu")); the log is $log" ;;
esac
verdict=$(tr -d '\r' <"$log" | grep -a -m1 '^zcopy: \(PASSED\|FAILED\)')
[[ $verdict = "zcopy: PASSED"* ]] || fatal "${verdict#zcopy: }; the log is $log"
