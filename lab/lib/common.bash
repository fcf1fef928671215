# Sourced by the lab's programs on the host.

lab=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
checkout=$(dirname "$lab")
cache=${XEN_ZCOPY_LAB:-${XDG_CACHE_HOME:-$HOME/.cache}/xen-zcopy/lab}

die() {
  printf '%s: %s\n' "${0##*/}" "$*" >&2
  exit 1
}

# need PROGRAM PACKAGE: stop early, and say what to install.
need() {
  command -v "$1" >/dev/null || die "$1 is not installed; try: apt install $2"
}

# fingerprint PATH...: one hash over names, modes and contents.
fingerprint() {
  find "$@" -type f -printf '%p %m\n' | LC_ALL=C sort | while read -r path mode; do
    printf '%s %s ' "${path#"$checkout"/}" "$mode"
    sha256sum <"$path"
  done | sha256sum | cut -d' ' -f1
}

# in_sysroot COMMAND...: run a program of the unpacked system, which has its own
# compiler. The host's may be older than the one that built the kernel.
in_sysroot() {
  local enter=(chroot)
  [ "$(id -u)" = 0 ] || enter=(unshare --user --map-root-user chroot)
  env -i PATH=/usr/sbin:/usr/bin LC_ALL=C HOME=/ "${enter[@]}" "$cache/sysroot" "$@"
}
