# Sourced by lab/run: creates the files of one QEMU, starts it and stops it.
#
# Each run has a directory of its own beside the images, so that the images can be
# hard-linked. QEMU runs in this directory, so that no path on its command line
# contains a comma or a space, at which QEMU would split it.

runs=$cache/runs
run=$runs/$$
machine=

machine_end() {
  [ -z "$machine" ] || machine_stop
  rm -rf "$run"
}
trap machine_end EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

# machine_files: creates dom0's /host and the guests' ramdisk.
machine_files() {
  local other program
  # Remove the directories of runs that were killed with SIGKILL.
  for other in "$runs"/*; do
    [ ! -d "$other" ] || kill -0 "${other##*/}" 2>/dev/null || rm -rf "$other"
  done
  mkdir -p "$run"/host/{bin,lib,guest} "$run/overlay/host/bin"
  ln "$cache"/images/{xen.elf,vmlinux,dom0.cpio} "$run/"
  ln "$cache/images/vmlinux" "$run/host/guest/"
  ln -s "$results" "$run/results"
  cp "$lab/lib/dom0.sh" "$run/host/lib/"
  cp -r "$lab/scenarios" "$run/host/"

  if [ -d "$bin" ]; then
    for program in "$bin"/*; do
      [ -x "$program" ] || continue
      strip -o "$run/host/bin/${program##*/}" "$program" 2>/dev/null || cp "$program" "$run/host/bin/"
    done
    for program in ${programs:-$(ls "$run/host/bin")}; do
      ln "$run/host/bin/$program" "$run/overlay/host/bin/"
    done
  fi
  # The kernel unpacks all archives of a ramdisk, in order.
  (cd "$run/overlay" && find host | cpio --quiet -o -H newc -R 0:0) >"$run/overlay.cpio"
  cat "$cache/images/guest.cpio" "$run/overlay.cpio" >"$run/host/guest/ramdisk"

  if [ "$system" = systemd ]; then
    "$checkout/scripts/install" "$bin" "$run/installed" /usr
    (cd "$run/installed" && find . -mindepth 1 | cpio --quiet -o -H newc -R 0:0) >"$run/installed.cpio"
    rm "$run/dom0.cpio"
    cat "$cache"/images/{dom0,systemd}.cpio "$run/installed.cpio" >"$run/dom0.cpio"
  fi
}

# machine_linux: prints the parameters of both kernels.
#
# Most parameters save time, and were found with initcall_debug. Linux searches for a
# timer chip that a PVH domain does not have. Each port access traps, which takes 3 s
# on an emulated processor. clearcpuid=tsc skips the search (the time comes from Xen
# anyway), and lpj= skips the measurement of delay loops that would replace it.
# pci=noearly skips the search for AGP bridges, 0.6 s.
#
# If instructions are counted, the TSC stays enabled, and dom0 reads its clock from it without a system call.
#
# free_per_iteration=0: the kernel frees all grants that a peer releases late in one
# iteration, not ten a second, so that a scenario can check that no grant is left.
machine_linux() {
  local words="console=hvc0 rdinit=/init quiet panic=-1 nokaslr mitigations=off audit=0"
  words+=" cryptomgr.notests initcall_blacklist=jent_mod_init,init_acpi_pm_clocksource"
  words+=" ipv6.disable=1 pci=noearly grant_table.free_per_iteration=0"
  if [ "$counted" = yes ]; then words+=" clocksource=tsc tsc=reliable lpj=4000000"
  elif [ "$accelerator" != kvm ]; then words+=" clearcpuid=tsc lpj=4000000"; fi
  echo "$words"
}

# machine_settings: writes the settings of the run, which dom0 reads.
machine_settings() {
  printf '%s=%q\n' scenario "$scenario" variant "$variant" dom0 "$dom0" gntdev "$gntdev" dom0_modules "$dom0_modules" \
    system "$system" keep "$keep" \
    guest_cmdline "$(machine_linux) $guest_options" >"$run/host/settings"
}

# machine_start: starts QEMU.
machine_start() {
  local xen linux
  linux=$(machine_linux)
  machine_settings
  linux+=" $dom0_options"
  # Both accelerators need nested virtualization, because PVH domains need SVM or VMX. Without an invariant TSC, Xen
  # emulates each reading of it in a PVH domain, which takes 11,400 instructions: Linux reads its clock that way. QEMU 7.2
  # has an invariant TSC under emulation, but offers it only if forced.
  local processor=(-accel kvm -cpu host) emulated=qemu64,+svm,+npt,+rdrand,+rdseed,+invtsc,x-force-features=on
  [ "$accelerator" = kvm ] || processor=(-accel tcg,thread=multi -cpu "$emulated")
  # One instruction takes two nanoseconds of virtual time. Idle virtual time passes without waiting on the host.
  [ "$counted" = no ] ||
    processor=(-accel tcg,thread=single -icount shift=1,sleep=off -cpu "$emulated")
  xen="com1=115200,8n1 console=com1 loglvl=all guest_loglvl=all noreboot=1 conring_size=1m"
  xen+=" dom0_max_vcpus=1 dom0_vcpus_pin dom0_mem=${dom0_memory}M,max:${dom0_memory}M"
  xen+=" bootscrub=0 spec-ctrl=no watchdog=0 cpufreq=none"
  local devices=()
  if [ "$dom0" = pvh ]; then
    # A PVH dom0 needs an IOMMU; QEMU's Intel one serves the emulated AMD processor.
    xen+=" dom0=pvh iommu=no-sharept"
    devices+=(-device intel-iommu,intremap=off)
  fi
  if [ "$screen" = yes ]; then
    devices+=(-device virtio-gpu-pci,iommu_platform=on,disable-legacy=on)
  fi
  local tag path
  for tag in host results; do
    path=$tag
    [ "$tag" != results ] || path=results/.
    devices+=(-fsdev "local,id=$tag,path=$path,security_model=none"
      -device "virtio-9p-pci,fsdev=$tag,mount_tag=$tag,iommu_platform=on,disable-legacy=on")
  done

  # With --keep the serial line is a socket, which gives access to a shell in dom0.
  local serial=file,path=results/serial.log
  [ -z "$keep" ] || serial=socket,path=serial,server=on,wait=off,logfile=results/serial.log
  mkfifo "$run/monitor"
  # setpriv: QEMU must not outlive this program, even if the program is killed with SIGKILL.
  (cd "$run" && exec setpriv --pdeathsig TERM qemu-system-x86_64 \
    -machine q35,kernel-irqchip=split "${processor[@]}" -m "$memory" -smp "$processors" \
    -nodefaults -display none -vga none -no-reboot \
    -chardev "$serial,id=serial" -serial chardev:serial \
    -chardev stdio,id=monitor,signal=off -mon chardev=monitor \
    "${devices[@]}" \
    -kernel xen.elf -append "$xen $xen_options" \
    -initrd "vmlinux ${linux//,/,,},dom0.cpio" \
    <>"$run/monitor" >"$run/monitor.out" 2>"$run/qemu.err") &
  machine=$!
}

# machine_stage: prints the last stage that the machine reached, according to the serial line.
machine_stage() {
  local log=$results/serial.log
  if grep -q 'lab: scenario' "$log" 2>/dev/null; then echo "in the scenario"
  elif grep -q 'lab: xenstored' "$log" 2>/dev/null; then echo "after starting xenstored"
  elif grep -q 'lab: init' "$log" 2>/dev/null; then echo "in dom0's init"
  elif grep -q 'Freed .*init memory' "$log" 2>/dev/null; then echo "in dom0's kernel"
  elif grep -q 'Xen version' "$log" 2>/dev/null; then echo "in Xen, before dom0's kernel"
  else echo "before Xen's first word"; fi
}

# machine_wait SECONDS: waits until dom0 reports the end of the scenario. Returns 1 after
# the time limit, 2 after a kernel panic, and 3 if QEMU has ended.
machine_wait() {
  local end=$((SECONDS + $1)) tick=0
  until [ -e "$results/.dom0-status" ]; do
    kill -0 "$machine" 2>/dev/null || return 3
    [ "$SECONDS" -lt "$end" ] || return 1
    [ ! -e "$results/.screenshot" ] || machine_screenshot
    if [ $((++tick % 20)) = 0 ] &&
      grep -qE 'Panic on CPU|Kernel panic - not syncing' "$results/serial.log" 2>/dev/null; then
      sleep 1
      return 2
    fi
    sleep 0.1
  done
}

machine_screenshot() {
  local name
  name=$(cat "$results/.screenshot")
  rm -f "$results/.screenshot"
  [[ $name =~ ^[A-Za-z0-9._-]+\.png$ ]] || return 0
  printf 'screendump screen.png -f png\n' >"$run/monitor"
  for _ in {1..200}; do
    # A PNG file is complete when it contains its last chunk.
    ! tail -c 12 "$run/screen.png" 2>/dev/null | grep -aq IEND || break
    sleep 0.05
  done
  mv "$run/screen.png" "$results/$name" 2>/dev/null || true
}

machine_stop() {
  machine_error=$(tail -n1 "$run/qemu.err")
  kill "$machine" 2>/dev/null || true
  # The braces also suppress bash's message about a killed process.
  { wait "$machine"; } 2>/dev/null || true
  machine=
}

# machine_keep: keeps the machine running until the user presses Enter.
machine_keep() {
  echo "# the machine still runs; a shell in dom0: socat -,raw,echo=0 unix-connect:$run/serial"
  echo "# QEMU's monitor reads commands from $run/monitor; press Enter here to end"
  read -r || true
}

# machine_accelerator: prints kvm if the boot scenario passes with it, else tcg. Nested
# KVM is often present but does not work, so it is tried once after each boot of the
# host.
machine_accelerator() {
  local key answer=tcg
  key="$(cat /proc/sys/kernel/random/boot_id) $(qemu-system-x86_64 --version | head -n1)"
  if [ "$(head -n1 "$cache/accelerator" 2>/dev/null)" != "$key" ]; then
    if [ -w /dev/kvm ] && grep -qwE 'svm|vmx' /proc/cpuinfo; then
      echo "# trying KVM, once" >&2
      ! "$lab/run" --accelerator kvm --timeout 40 --results "$cache/kvm-probe" boot/pvh \
        >"$cache/kvm-probe.log" 2>&1 || answer=kvm
    fi
    printf '%s\n' "$key" "$answer" >"$cache/accelerator"
  fi
  tail -n1 "$cache/accelerator"
}
