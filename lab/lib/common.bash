# Sourced by the lab's programs on the host.

lab=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
checkout=$(dirname "$lab")
cache=${XEN_ZCOPY_LAB:-${XDG_CACHE_HOME:-$HOME/.cache}/xen-zcopy/lab}
sysroot=$cache/sysroot

die() {
  printf '%s: %s\n' "${0##*/}" "$*" >&2
  exit 1
}

# need PROGRAM PACKAGE: exits with the package to install if the program is missing.
need() {
  command -v "$1" >/dev/null || die "$1 is not installed; try: apt install $2"
}

# fingerprint PATH...: prints one hash over names, modes and contents.
fingerprint() {
  find "$@" -type f -printf '%p %m\n' | LC_ALL=C sort | while read -r path mode; do
    printf '%s %s ' "${path#"$checkout"/}" "$mode"
    sha256sum <"$path"
  done | sha256sum | cut -d' ' -f1
}

# lock: takes the lock of the cache, so that one program at a time changes it.
lock() {
  mkdir -p "$cache"
  exec 9>"$cache/lock"
  flock 9
}

# stage NAME FINGERPRINT COMMAND...: runs the command if the fingerprint of its inputs has changed.
stage() {
  local name=$1 inputs=$2 started=$SECONDS
  shift 2
  [ "$(cat "$cache/$name.stamp" 2>/dev/null)" != "$inputs" ] || return 0
  rm -f "$cache/$name.stamp"
  "$@"
  echo "$inputs" >"$cache/$name.stamp"
  echo "$name: done in $((SECONDS - started)) s"
}

# in_sysroot COMMAND...: runs a program of the unpacked system $sysroot, which has its
# own compiler. The host's compiler may be older than the one that built the kernel.
in_sysroot() {
  local enter=(chroot)
  [ "$(id -u)" = 0 ] || enter=(unshare --user --map-root-user chroot)
  env -i PATH=/usr/sbin:/usr/bin LC_ALL=C HOME=/ "${enter[@]}" "$sysroot" "$@"
}

# dkms_build KERNEL FILE [PATCH...]: builds ../kernel, with these patches in addition to its own, with
# the sysroot's dkms for one of its kernels. Writes the module to FILE, not compressed.
dkms_build() {
  local package=xen-gntdev-dmabuf version work=$sysroot/tmp/dkms module
  version=$(sed -n 's/^PACKAGE_VERSION="\(.*\)"/\1/p' "$checkout/kernel/dkms.conf")
  rm -rf "$work"
  mkdir -p "$work/source" "$work/tree"
  cp -r "$checkout/kernel" "$work/source/$package-$version"
  [ $# = 2 ] || cp "${@:3}" "$work/source/$package-$version/patches/"
  if ! in_sysroot dkms build "$package/$version" -k "$1" --sourcetree /tmp/dkms/source --dkmstree /tmp/dkms/tree \
    >"$work/log" 2>&1; then
    cat "$work/log" "$work/tree/$package/$version/build/make.log" >&2
    die "dkms cannot build xen-gntdev for Linux $1"
  fi
  module=$(echo "$work/tree/$package/$version/$1"/*/module/xen-gntdev.ko*)
  case $module in
    *.xz) xz -dc <"$module" >"$2" ;;
    *) cp "$module" "$2" ;;
  esac
  rm -rf "$work"
}
