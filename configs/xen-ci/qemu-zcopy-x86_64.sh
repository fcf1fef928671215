#!/bin/bash
# qemu-zcopy-x86_64.sh XEN KERNEL INITRD
#
# Boots Xen with a PVH dom0 in QEMU, without KVM. dom0 runs the smoke test of xen-zcopy: a guest's buffer becomes a dma-buf,
# frames, the death of either side, and unchanged grant tables at the end. INITRD is dom0's ramdisk. It contains the guests too
# (lab/xen-ci of xen-zcopy makes it), so that neither a network nor a disk is needed.
#
# Exit status: 0, or 1 and one line with the reason. The serial log is smoke.serial in the current directory.
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
# Mitigations make no sense on an emulated processor, and its IOMMU shares no page tables.
xen_options+=" iommu=no-sharept spec-ctrl=no bootscrub=0 watchdog=0 cpufreq=none"
dom0_options="console=hvc0 rdinit=/init quiet panic=-1 nokaslr mitigations=off audit=0"
# The search for timers that a PVH domain does not have takes seconds on an emulated processor.
dom0_options+=" clearcpuid=tsc lpj=4000000 pci=noearly initcall_blacklist=jent_mod_init,,init_acpi_pm_clocksource"
# The kernel frees all pages that a peer releases late in one iteration, so that the test can check that none is left.
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

# run: waits for dom0's verdict. Returns 1 after the time limit, 2 after a panic, 3 if QEMU ended.
run() {
    local shown=0 end=$((SECONDS + limit)) lines
    : >"$log"
    # Without an invariant TSC, Xen emulates each reading of it. QEMU 7.2 offers it under emulation only if forced.
    qemu-system-x86_64 -accel tcg,thread=multi -cpu qemu64,+svm,+npt,+rdrand,+invtsc,x-force-features=on \
        -machine q35,kernel-irqchip=split -device intel-iommu,intremap=off -m 3072 -smp 2 \
        -nodefaults -display none -vga none -no-reboot -serial "file:$log" \
        -kernel "$xen" -append "$xen_options" -initrd "$kernel $dom0_options,$initrd" </dev/null 2>"$log.qemu" &
    qemu=$!
    while true; do
        # dom0's output as it arrives. A line of Xen's may interrupt one of its lines.
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
    # With QEMU 7.2, dom0 sometimes ends with a fault of the emulated processor at an address of Xen's code: no verdict then.
    if [ $status -lt 2 ] || ! grep -aqE 'd0v0 Triple fault|Oops: double fault' "$log"; then break; fi
    echo "the emulated processor failed; once more, from the start (try $((try + 1)))"
done

case $status in
    0) ;;
    1) tail -n 15 "$log" >&2; fatal "not finished after $limit seconds; the log is $log" ;;
    2) tail -n 15 "$log" >&2; fatal "Xen or a kernel panicked; the log is $log" ;;
    3) tail -n 15 "$log" >&2; fatal "QEMU ended by itself ($(tail -n1 "$log.qemu")); the log is $log" ;;
esac
verdict=$(tr -d '\r' <"$log" | grep -a -m1 '^zcopy: \(PASSED\|FAILED\)')
[[ $verdict = "zcopy: PASSED"* ]] || fatal "${verdict#zcopy: }; the log is $log"
