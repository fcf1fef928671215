# Tests the installed daemon under Debian's systemd: its units, users and rules, and the restrictions of the service. A
# member of the group xen-zcopy uses the daemon. Restarts keep all buffers and clients, and no guest observes them.
. /host/lib/dom0.sh
plan 44

said() { wait_for 20 grep -q -e "$2" "$1" || { cat "$1"; return 1; }; }
property() { systemctl show --value --property "$1" xen-zcopyd.service; }
main_pid() { property MainPID; }
# as USER COMMAND-LINE
as() { su -s /bin/sh "$1" -c "$2"; }
# start_as_member LOG ARGUMENT...: runs xen-zcopy in the background as the user member; $member is its process.
start_as_member() {
  local log=/results/$1.log
  shift
  exec su -s /bin/sh member -c "exec xen-zcopy $*" >"$log" 2>&1 &
  member=$!
}
# logged LOG COMMAND...: runs the command and keeps its output in /results/LOG.log; prints the output on failure.
logged() {
  local log="/results/$1.log" status=0
  shift
  "$@" >"$log" 2>&1 || status=$?
  [ $status = 0 ] || cat "$log"
  return $status
}
ids() { as member "xen-zcopy list --json" | sed -n 's/.*"id":"\([0-9a-f]*\)".*/\1/p' | sort; }
listed() { [ "$(ids | wc -l)" = "$1" ]; }
is_listed() { wait_for 10 listed "$1" || { as member "xen-zcopy list"; return 1; }; }
device() { [ "$(stat -c '%G %a' "/dev/$1")" = "$2" ] || { ls -l "/dev/$1"; return 1; }; }
opened_to_daemon() { getfacl -p "$1" 2>&1 | grep -q '^group:xen-zcopyd:rw-' || { getfacl -p "$1"; return 1; }; }

# --- Installed --------------------------------------------------------------------

trap 'journalctl --no-pager -b -o short-monotonic >/results/journal.log' EXIT
sed -i 's/^#log-level = .*/log-level = info/' /etc/xen-zcopyd.conf
udevadm settle
check "systemd is the first process" grep -q systemd /proc/1/comm
made() { grep -q '^xen-zcopyd:' /etc/passwd && grep -q '^xen-zcopyd:' /etc/group && grep -q '^xen-zcopy:' /etc/group; }
check "sysusers.d has created the user and both groups" made
systemd-sysusers --inline 'u member -' 'm member xen-zcopy' 'u stranger -'
for name in gntdev gntalloc evtchn xenbus; do
  check "udev gives the daemon's group access to xen/$name" device xen/$name "xen-zcopyd 660"
done
check "udev gives the daemon's group access to udmabuf" opened_to_daemon /dev/udmabuf
check "udev gives the daemon's group access to the system heap" opened_to_daemon /dev/dma_heap/system

# --- Start ------------------------------------------------------------------------

check "the service starts" logged start systemctl start xen-zcopyd.service || {
  systemctl status --no-pager -l xen-zcopyd.service xen-zcopyd.socket >&2
  bail_out "no daemon"
}
check "the service is active" sh -c '[ "$(systemctl show --value -p ActiveState,SubState xen-zcopyd.service | tr "\n" " ")" = "active running " ]'
confined() {
  grep -E '^(Uid|Gid|CapEff|NoNewPrivs|Seccomp):' "/proc/$(main_pid)/status" >/results/confined.log
  cat /results/confined.log
  grep -qE '^Uid:.*[1-9]' /results/confined.log && grep -qE '^CapEff:.0+$' /results/confined.log &&
    grep -qE '^NoNewPrivs:.1$' /results/confined.log && grep -qE '^Seccomp:.2$' /results/confined.log
}
check "the service runs without root and capabilities, with no_new_privs and a seccomp filter" confined
# The first write must succeed: it shows that nsenter works, so that the second one fails because of the mount.
read_only() {
  nsenter -t "$(main_pid)" -m sh -c ': >/var/lib/xen-zcopyd/probe && rm /var/lib/xen-zcopyd/probe' &&
    ! nsenter -t "$(main_pid)" -m sh -c ': >/usr/sbin/probe' 2>/dev/null
}
check "/usr is read-only for the service" read_only
# Runs a process in the service's control group, to which DevicePolicy applies.
only_its_devices() {
  (
    echo 0 >"/sys/fs/cgroup$(sed -n 's/^0:://p' "/proc/$(main_pid)/cgroup")/cgroup.procs" || exit
    # A redirection that fails ends the shell.
    (: </dev/xen/gntdev) && ! (: </dev/xen/privcmd) && ! (: </dev/kmsg)
  )
}
check "the service can open only its own devices" only_its_devices
keep_grants

guest_create front || bail_out "no guest"
guest_start front screen xen-zcopy share --domain 0 --pattern smpte --publish screen
guest_says front screen 30 "published at" || bail_out "the guest shares no buffer"
screen=/local/domain/$domid/data/zcopy/screen
directory=$(xenstore-read "$screen/directory")

# --- Map and share ----------------------------------------------------------------

check "a member of the group maps the guest's buffer" \
  logged map as member "xen-zcopy map --domain $domid --directory $directory --size 8294400 --mechanism dmabuf --width 1920 --height 1080 --verify smpte"
check "a member of the group maps the guest's buffer by copy" \
  logged copy as member "xen-zcopy map --domain $domid --directory $directory --size 8294400 --mechanism copy --width 1920 --height 1080 --verify smpte"
check "a member of the group maps a publication, which the daemon reads from XenStore" logged from as member "xen-zcopy map --from $screen --verify smpte"
refused() { ! logged stranger as stranger "xen-zcopy list" && grep -q "members of the group xen-zcopy" /results/stranger.log; }
check "a user who is not in the group is refused, with the reason" refused

xen_memory=0
for memory in udmabuf heap:system; do
  xen_memory=$((xen_memory + 1))
  start_as_member "share$xen_memory" share --domain "$domid" --memory $memory --width 1920 --height 1080 --publish "canvas$xen_memory"
  check "a member of the group shares memory of $memory" said "/results/share$xen_memory.log" "published at"
  check "the guest draws into memory of $memory" guest_run front 60 "xen-zcopy map --from /local/domain/0/data/zcopy/canvas$xen_memory --draw smpte"
  kill -INT $member
  wait $member
done
# The member sends a dma-buf of its own, which a helper process of the daemon receives. The helper ends 10 s later.
service=/sys/fs/cgroup/system.slice/xen-zcopyd.service
(
  until grep -qx zcopyd-receiver $(sed 's|.*|/proc/&/comm|' "$service/cgroup.procs") 2>/dev/null; do sleep 0.1; done
  touch /results/receiver
) &
watch=$!
start_as_member lent share --domain "$domid" --memory heap:system --width 1920 --height 1080 --publish lender \
  --exec sh -c "'exec xen-zcopy share --domain $domid --memory fd:\$ZCOPY_FD --width 1920 --height 1080 --publish canvas3'"
check "a member of the group shares a dma-buf that it sends with the request" said /results/lent.log "published at .*canvas3"
check "a helper process received the dma-buf" wait_for 10 test -e /results/receiver
kill "$watch" 2>/dev/null
check "the guest draws into this dma-buf" guest_run front 60 "xen-zcopy map --from /local/domain/0/data/zcopy/canvas3 --draw smpte"
kill -INT $member
wait $member
check "the shared buffer is closed when the member ends the share" is_listed 0

# --- Restart ----------------------------------------------------------------------

start_as_member held map --from "$screen"
said /results/held.log "^mapped" || bail_out "map holds no buffer"
mkfifo /run/wants
backend --importer /dev/lab-importer "$domid" "$directory" 8294400 1920 1080 </run/wants >/results/backend.log 2>&1 &
backend=$!
exec 7>/run/wants
said /results/backend.log "^imported" || bail_out "the backend maps no buffer"
is_listed 2
check "describe prints one buffer" logged describe as member "xen-zcopy describe $(ids | head -n1)"
ids >/results/ids.before
peers() { guest_output front screen | grep -c "has ended\|has released\|has mapped"; }
peers_before=$(peers)
same() {
  ids >/results/ids.after
  cmp /results/ids.before /results/ids.after && [ "$(peers)" = "$peers_before" ] && kill -0 "$member" "$backend"
}
pid=$(main_pid)
check "systemctl restart works" logged restart systemctl restart xen-zcopyd.service
anew() { [ "$(main_pid)" != "$pid" ]; }
check "systemctl restart starts a new process" anew
check "systemctl restart keeps the buffers and clients, and the guest sees no end, release or new map" same
pid=$(main_pid)
cp /usr/sbin/xen-zcopyd /usr/sbin/xen-zcopyd.new
mv /usr/sbin/xen-zcopyd.new /usr/sbin/xen-zcopyd
kill -USR2 "$pid"
in_place() { [ "$(readlink "/proc/$pid/exe")" = /usr/sbin/xen-zcopyd ] && [ "$(main_pid)" = "$pid" ]; }
check "SIGUSR2 starts the new program in the same process" wait_for 10 in_place
check "SIGUSR2 keeps the buffers and clients, and the guest sees no end, release or new map" same
check "systemctl reload works" logged reload systemctl reload xen-zcopyd.service
check "systemctl reload keeps the buffers and clients, and the guest sees no end, release or new map" same

# --- The watchdog -----------------------------------------------------------------

mkdir -p /run/systemd/system/xen-zcopyd.service.d
printf '[Service]\nWatchdogSec=4s\n' >/run/systemd/system/xen-zcopyd.service.d/watchdog.conf
systemctl daemon-reload
systemctl restart xen-zcopyd.service
pid=$(main_pid)
sleep 9
alive() { [ "$(main_pid)" = "$pid" ] && [ "$(property ActiveState)" = active ]; }
check "the watchdog does not restart a daemon that works" alive
kill -INT $member
wait $member
exec 7>&-
kill $backend
wait $backend
kill -STOP "$pid"
replaced() { [ "$(main_pid)" != "$pid" ] && [ "$(main_pid)" != 0 ] && [ "$(property ActiveState)" = active ]; }
check "the watchdog restarts a daemon that is stopped" wait_for 30 replaced

# --- The end ----------------------------------------------------------------------

check "the restarted daemon serves a map" logged again as member "xen-zcopy map --from $screen --verify smpte"
fields() {
  journalctl -o export --no-pager -u xen-zcopyd.service ZCOPY_DOMAIN="$domid" >/results/journal.export
  grep -q "^ZCOPY_DOMAIN=" /results/journal.export && grep -q "^SYSLOG_IDENTIFIER=xen-zcopyd" /results/journal.export
}
check "the journal has the fields ZCOPY_DOMAIN and SYSLOG_IDENTIFIER" fields
start_as_member orphan map --from "$screen"
said /results/orphan.log "^mapped"
check "systemctl stop works" logged stop systemctl stop xen-zcopyd.service
check "systemctl stop closes the clients' connections" said /results/orphan.log "has closed the connection"
wait $member
check "the guest reports that its peer ended without releasing the buffer" guest_says front screen 20 "ended without releasing"
check "a client starts the service through the socket" logged activated as member "xen-zcopy list"
check "systemctl stop of the socket and the service works" logged stop systemctl stop xen-zcopyd.socket xen-zcopyd.service
guest_destroy front
gone() { ! xl list | grep -qE "^(front|\(null\)) "; }
nothing_left() { [ "$(property NFileDescriptorStore)" = 0 ] && [ "$(main_pid)" = 0 ] && [ ! -e /run/xen-zcopyd/socket ] && wait_for 10 gone; }
check "systemctl stop leaves no process, stored descriptor, socket or mapping" nothing_left
check "the grants in use are the same as before" grants_as_kept
