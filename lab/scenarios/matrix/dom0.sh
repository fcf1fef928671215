# Runs the same steps in every kind of backend domain: `doctor`, then each mechanism of `map` and each memory of `share`,
# with a guest as the peer. A step fails if its result contradicts the prediction of `doctor`.
. /host/lib/dom0.sh
plan 13

# --- The backend: dom0, or a driver domain beside it --------------------------

kernel=dmabuf
case $variant in *stock*) kernel=stock ;; esac
case $variant in
  driver-domain)
    guest_create driver memory=640 gntdev=$kernel modules=vgem || bail_out "no driver domain"
    backend=$(guest_domid driver)
    # on_backend COMMAND: runs the command in the backend domain to its end, and prints its output.
    on_backend() { guest_run driver 60 "$1"; }
    # job_start JOB COMMAND: runs the command in the background; job_log has its output, job_status its exit status.
    job_start() { guest_start driver "$1" "$2"; }
    job_stop() { guest_kill driver "$1" TERM 2>/dev/null; }
    job_log() { echo "/results/driver.$1.log"; }
    job_status() { echo "/run/guests/driver.$1.status"; }
    ;;
  *)
    backend=0
    on_backend() { sh -c "$1" 2>&1; }
    job_start() {
      rm -f "/run/$1.status"
      {
        sh -c "echo \$\$ >/run/$1.pid; $2"
        echo $? >"/run/$1.status"
      } >"/results/dom0.$1.log" 2>&1 &
    }
    job_stop() { kill "$(cat "/run/$1.pid")" 2>/dev/null; }
    job_log() { echo "/results/dom0.$1.log"; }
    job_status() { echo "/run/$1.status"; }
    ;;
esac
ended() { [ -s "$(job_status "$1")" ]; }
# says JOB PATTERN: waits until the job has printed PATTERN; false if the job ends without it.
says_or_ended() { grep -q -e "$2" "$(job_log "$1")" || ended "$1"; }
says() {
  wait_for 30 says_or_ended "$@"
  grep -q -e "$2" "$(job_log "$1")"
}
guest_create front gntdev=$kernel || bail_out "no guest"
front=$(guest_domid front)
keep_grants
geometry="--width 1920 --height 1080"

# --- The prediction of doctor ---------------------------------------------------

on_backend "xen-zcopy doctor --json" >/results/doctor.log
diagnosis=$(grep '"event":"diagnosis"' /results/doctor.log)
[ -n "$diagnosis" ] || bail_out "doctor printed no diagnosis: $(cat /results/doctor.log)"
on_backend "xen-zcopy doctor" >/results/doctor.txt
# value NAME [FILE]: prints the value of NAME in the last JSON object that has it.
value() { sed -n "s/.*\"$1\":\"\{0,1\}\([^\",}]*\).*/\1/p" "${2:-/results/doctor.log}" | tail -n1; }
note "doctor: maps by $(value mechanism), shares from $(value memory)"

# row STEP PREDICTED WORKED HOW MILLISECONDS: writes one cell of the table, and its test result. "null" predicts that the
# result depends on the location of the memory. A refusal must then be one line.
row() {
  printf '%s\t%s\t%s\t%s\t%s\n' "$@" >>/results/rows
  local what="$1: "
  [ "$3" = true ] && what="${what}works by $4, $5 ms" || what="${what}does not work"
  case $2 in
    "$3") ok "$what, as predicted" ;;
    null)
      if [ "$3" = true ] || [ "$(grep -c '^xen-zcopy: ' "$log")" = 1 ]; then
        ok "$what; the prediction was that it depends on the memory"
      else
        not_ok "$what, without an error message of one line" "$(cat "$log")"
      fi
      ;;
    *) not_ok "$what; the prediction was $2" "$(cat "$log")" ;;
  esac
}

# --- Map a guest's buffer -------------------------------------------------------

guest_start front screen xen-zcopy share --domain "$backend" --pattern smpte --publish screen
guest_says front screen 30 "published at" || bail_out "the guest shares no buffer: $(guest_output front screen)"

# maps STEP PREDICTED [OPTION...]
maps() {
  local step=$1 predicted=$2 worked=false
  shift 2
  log=/results/$step.log
  on_backend "xen-zcopy map --from /local/domain/$front/data/zcopy/screen --verify smpte --json $*" >"$log" &&
    grep -q '"event":"released"' "$log" && worked=true
  row "$step" "$predicted" $worked "$(value mechanism "$log")" "$(value mapping_ms "$log")"
}
for mechanism in dmabuf copy cpu; do
  maps "map-$mechanism" "$(value "map-$mechanism")" --mechanism $mechanism
done
maps map-auto "$(value map)"
log=/results/map-auto.log
check "map selects the mechanism that doctor reports" [ "$(value mechanism "$log")" = "$(value mechanism)" ]
guest_kill front screen TERM
check "the guest ends its share" guest_wait front screen 30

# --- The guest draws into the backend's memory ----------------------------------

# shares STEP PREDICTED MEMORY [COMMAND...]: COMMAND, if given, starts the share as its own command line.
shares() {
  local step=$1 predicted=$2 memory=$3 worked=false line job
  # Jobs reach guests through XenStore, whose names contain no colons.
  job=$(echo "$1" | tr : -)
  shift 3
  line="exec xen-zcopy share --domain $front $geometry --publish canvas --verify smpte --json --memory $memory"
  [ $# = 0 ] || line="exec $* sh -c '$line'"
  job_start "$job" "$line"
  # The guest draws with the mechanism that works there: with grant copy if gntdev has no dma-bufs.
  if says "$job" '"event":"shared"' && guest_run front 60 \
    "xen-zcopy map --from /local/domain/$backend/data/zcopy/canvas --draw smpte" >"/results/$job.front.log" 2>&1; then
    says "$job" '"event":"contents"' && worked=true
  fi
  job_stop "$job"
  wait_for 30 ended "$job" && [ "$(cat "$(job_status "$job")")" = 0 ] || worked=false
  log=$(job_log "$job")
  row "$step" "$predicted" $worked "$(value memory "$log")" "$(value memory_ms "$log")"
}
for memory in heap:system udmabuf gntalloc; do
  shares "share-$memory" "$(value "share-$memory")" $memory
done
shares share-auto true auto
check "share selects the memory that doctor reports" [ "$(value memory "$log")" = "$(value memory)" ]
# The command inherits a dma-buf of another exporter.
shares share-fd "$(value share-fd)" 'fd:$ZCOPY_DUMB_FD' drm-dumb 1920 1080

check "the grants in use are the same as before" grants_as_kept
