# Sourced by the scenarios' dom0.sh (busybox sh): TAP, guests, waiting.
#
# The helpers write TAP to descriptor 3, which lab/run shows as it arrives. All
# other output goes to dom0.log. Files belong in /results.

# --- TAP --------------------------------------------------------------------

tests=0
# Time limits detect hangs. They are stated for an idle host; a slow host may take several times as long.
patience=4

plan() { echo "1..$1" >&3; }

ok() {
  tests=$((tests + 1))
  echo "ok $tests - $1" >&3
}

# not_ok DESCRIPTION REASON
not_ok() {
  tests=$((tests + 1))
  echo "not ok $tests - $1" >&3
  [ -z "${2:-}" ] || echo "$2" | sed 's/^/#   /' >&3
}

# skip DESCRIPTION WHY
skip() {
  tests=$((tests + 1))
  echo "ok $tests - $1 # SKIP $2" >&3
}

note() { echo "# $*" >&3; }

# bail_out REASON: ends the scenario, because no later test can run.
bail_out() {
  echo "Bail out! $*" >&3
  exit 1
}

# check DESCRIPTION COMMAND...: ok if COMMAND succeeds, else not ok with its output.
check() {
  local description=$1 output status=0
  shift
  output=$("$@" 2>&1) || status=$?
  if [ $status = 0 ]; then
    ok "$description"
  else
    not_ok "$description" "$* (exit status $status)
$output"
  fi
  return $status
}

# wait_for SECONDS COMMAND...: repeats COMMAND until it succeeds; false after the time limit.
wait_for() {
  local end=$(($(cut -d. -f1 /proc/uptime) + patience * $1))
  shift
  until "$@"; do
    [ "$(cut -d. -f1 /proc/uptime)" -lt "$end" ] || return 1
    usleep 50000
  done
}

# --- Guests -----------------------------------------------------------------

. /host/settings
mkdir -p /run/guests

# guest_create NAME [memory=256] [vcpus=1] [type=pvh|pv] [gntdev=dmabuf|stock|pv]
#              [modules=A,B] [XL.CFG-LINE...]
# Returns when the guest accepts commands; $domid is its domain.
guest_create() {
  local name=$1 memory=256 vcpus=1 type=pvh gntdev=dmabuf modules= line config
  config=/run/guests/$1.cfg
  shift
  : >"$config"
  for line; do
    case $line in
      memory=*) memory=${line#*=} ;;
      vcpus=*) vcpus=${line#*=} ;;
      type=*) type=${line#*=} ;;
      gntdev=*) gntdev=${line#*=} ;;
      modules=*) modules=${line#*=} ;;
      *) echo "$line" >>"$config" ;;
    esac
  done
  cat >>"$config" <<EOF
name = "$name"
type = "$type"
memory = $memory
vcpus = $vcpus
kernel = "/host/guest/vmlinux"
ramdisk = "/host/guest/ramdisk"
cmdline = "$guest_cmdline lab.gntdev=$gntdev lab.modules=$modules"
on_crash = "preserve"
EOF
  # QEMU's emulated processor sometimes fails while a guest starts. This is not a failure of the scenario: the guest is
  # created once more, and a note reports it.
  guest_boot "$name" "$config" && return
  note "the guest $name was created once more: $(cat "/run/guests/$name.failure")"
  guest_destroy_failed "$name"
  guest_boot "$name" "$config" && return
  note "the guest $name failed again: $(cat "/run/guests/$name.failure")"
  tail -n 5 "/results/guest-$name.log" | sed 's/^/#   /' >&3
  return 1
}

# guest_boot NAME CONFIG: creates the guest and waits until it accepts commands; /run/guests/NAME.failure has the error.
guest_boot() {
  local state end=$(($(cut -d. -f1 /proc/uptime) + patience * 90))
  # -e: no xl process stays to monitor the guest, which guest_destroy ends anyway.
  xl create -q -e "$2" >"/run/guests/$1.failure" 2>&1 || return
  domid=$(guest_domid "$1")
  echo "$domid" >"/run/guests/$1.domid"
  until guest-exec "$domid" wait 10; do
    state=$(xl list "$domid" 2>&1 | awk 'NR == 2 { print $5 }')
    case $state in
      ????c?) echo "it crashed" >"/run/guests/$1.failure"; return 1 ;;
    esac
    if [ "$(cut -d. -f1 /proc/uptime)" -ge "$end" ]; then
      echo "it did not come up in $((patience * 90)) s, and is ${state:-gone}" >"/run/guests/$1.failure"
      return 1
    fi
  done
}

# guest_destroy_failed NAME: removes a guest that did not come up. The console's log is kept.
guest_destroy_failed() {
  xl destroy "$(guest_domid "$1")" >/dev/null 2>&1
  rm -f "/run/guests/$1.domid" "/run/guests/$1.failure"
  [ ! -e "/results/guest-$1.log" ] || cp "/results/guest-$1.log" "/results/guest-$1.failed.log"
}

guest_domid() { cat "/run/guests/$1.domid" 2>/dev/null || xl domid "$1"; }

guest_destroy() {
  xl destroy "$(guest_domid "$1")" || return
  rm -f "/run/guests/$1".*
}

# guest_run NAME [SECONDS] COMMAND...: runs the command to its end, prints its output, which is also kept
# in NAME.log, and returns its exit status (124: time limit exceeded; default 60 s).
guest_run() {
  local name=$1 seconds=60 status=0
  shift
  case $1 in
    *[!0-9]*) ;;
    *) seconds=$1; shift ;;
  esac
  echo "\$ $*" >>"/results/$name.log"
  guest-exec "$(guest_domid "$name")" run "run-$$" "$((patience * seconds))" "$*" >"/run/guests/$name.out" 2>&1 ||
    status=$?
  tee -a "/results/$name.log" <"/run/guests/$name.out"
  [ $status = 0 ] || echo "[exit status $status]" >>"/results/$name.log"
  return $status
}

# guest_start NAME JOB COMMAND...: runs the command in the background; its output goes to
# /results/NAME.JOB.log as it arrives.
guest_start() {
  local name=$1 job=$2
  shift 2
  rm -f "/run/guests/$name.$job.status"
  {
    guest-exec "$(guest_domid "$name")" run "$job" 0 "$*"
    echo $? >"/run/guests/$name.$job.new"
    mv "/run/guests/$name.$job.new" "/run/guests/$name.$job.status"
  } >"/results/$name.$job.log" 2>&1 &
}

# guest_kill NAME JOB SIGNAL (a name or a number)
guest_kill() {
  guest-exec "$(guest_domid "$1")" signal "$2" "$(signal_number "$3")"
}

signal_number() {
  case $1 in
    *[!0-9]*) kill -l "${1#SIG}" ;;
    *) echo "$1" ;;
  esac
}

# guest_wait NAME JOB SECONDS: waits for the job and returns its exit status; 124 if it still runs after that time.
guest_wait() {
  wait_for "$3" [ -e "/run/guests/$1.$2.status" ] || return 124
  return "$(cat "/run/guests/$1.$2.status")"
}

# guest_output NAME JOB: prints the job's output so far.
guest_output() { cat "/results/$1.$2.log"; }

# guest_says NAME JOB SECONDS PATTERN: waits until the job has printed PATTERN.
guest_says() {
  wait_for "$3" grep -q -e "$4" "/results/$1.$2.log"
}

# --- Xen --------------------------------------------------------------------

# xen_grants: prints Xen's list of the grants in use, with the granting and the mapping domain of each.
xen_grants() {
  xl dmesg -c >>/results/xen.log
  xl debug-keys g
  # The hypervisor prints soon, but possibly after the call has returned.
  wait_for 10 eval 'xl dmesg | grep -q "gnttab_usage_print_all . done"'
  xl dmesg | sed -n '/gnttab_usage_print_all \[/,/gnttab_usage_print_all \]/p'
}

# keep_grants: saves the list of grants in use. grants_as_kept: succeeds if the list is unchanged, else prints it.
keep_grants() { xen_grants >/results/grants.before; }
grants_as_kept() {
  local when
  xen_grants >/results/grants.after
  # Each grant in use has a line that begins with the reference in brackets.
  for when in before after; do
    grep -E '\[0x|^ *\[ *[0-9]' /results/grants.$when >/tmp/grants.$when
  done
  cmp /tmp/grants.before /tmp/grants.after || { cat /results/grants.after; return 1; }
}

# screenshot NAME.png: saves the machine's screen as /results/NAME.png.
screenshot() {
  rm -f "/results/$1"
  # Rename a complete file: the host polls for this name and reads the file as soon as it exists.
  echo "$1" >/results/.screenshot.new
  mv /results/.screenshot.new /results/.screenshot
  wait_for 20 [ -s "/results/$1" ]
}
