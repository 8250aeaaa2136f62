#!/usr/bin/env bash
# rxe-vm.sh - a throw-away virtual machine with the Linux kernel's own Soft-RoCE (rdma_rxe), and a host of ours beside it.
#
#   rxe-vm.sh setup           build the image of kernel and initramfs in the cache, unless it is there
#   rxe-vm.sh start           boot, make the network, wait until the guest answers
#   rxe-vm.sh exec CMD...     run CMD with sh in the guest: prints its output as it comes, exits with its status
#                             (CMD "-" reads a script from stdin; status 125: the guest does not answer)
#   rxe-vm.sh host CMD...     run CMD in the namespace of the host beside it (there the guest is 10.77.0.2)
#   rxe-vm.sh mtu BYTES       set the MTU of every interface on the way
#   rxe-vm.sh link [DELAY_NS JITTER_NS LOSS_PPM DUPLICATE_PPM REORDER_PPM]
#                             what happens to frames on the way, in both directions (default: nothing);
#                             prints what happened to them since the last such call
#   rxe-vm.sh log             the guest's console
#   rxe-vm.sh stop            power off, remove the namespaces
#
#   host: eth0 10.77.0.1, fd77::1  ---veth---  link0  ---rdmakit-relay---  tap0  ---QEMU---  guest: eth0, rxe0 10.77.0.2, fd77::2
#
# The guest's second interface is QEMU's user network, for `exec` only. $SHARE on the host is /share in the guest.
# Needs root, /dev/net/tun and the Debian packages listed in setup(). TCG, no KVM: speeds in there mean nothing.
set -euo pipefail

NAME=${RXE_VM_NAME:-rxevm}                  # prefix of both network namespaces, name of the state folder
CACHE=${RXE_VM_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/rdmakit/rxe-vm}
MEM=${RXE_VM_MEM:-640}                      # MiB
KERNEL=${RXE_VM_KERNEL:-linux-image-amd64}  # or linux-image-6.12-amd64, ...; the -cloud- flavours have no rdma_rxe
NIC=virtio-net-pci,csum=off,gso=off,guest_csum=off # plain frames: no offloads on the TAP
RUN=${RXE_VM_RUN:-/run/rdmakit-rxe-vm}/$NAME
SHARE=${RXE_VM_SHARE:-$RUN/share}
RELAY=$(dirname "$0")/../../prebuilds/linux-x64/rdmakit-relay
PORT=2323
MTU_MAX=9000
IMAGE=$CACHE/$KERNEL-$(sha256sum < "$0" | cut -c1-8) # one for each kernel and version of this script

die() { echo "rxe-vm: $*" >&2; exit 1; }
in_vm_ns() { ip netns exec "$NAME" "$@"; }
in_host_ns() { ip netns exec "$NAME-host" "$@"; }
alive() { [ -s "$RUN/$1.pid" ] && kill -0 "$(cat "$RUN/$1.pid")" 2>/dev/null; }

# The guest's programs with all their libraries: apt resolves them against an empty dpkg status; nothing is installed here.
unpack_programs() { # work folder, root of the guest
  local tmp=$1 root=$2 deb
  : > "$tmp/status"
  apt-get -qq -y --download-only --no-install-recommends -o Dir::State::status="$tmp/status" -o Debug::NoLocking=1 \
    -o Dir::Cache::archives="$tmp/debs" -o APT::Sandbox::User=root install \
    ibverbs-utils rdmacm-utils perftest ibverbs-providers iproute2 kmod dash libstdc++6 >/dev/null
  for deb in "$tmp"/debs/*.deb; do
    dpkg-deb --fsys-tarfile "$deb" | tar -x -C "$root" --keep-directory-symlink --wildcards \
      --exclude='./usr/share/*' --exclude='./etc/*' --exclude='*/locale/*' --exclude='*/gconv/*'
  done
  dpkg-deb --fsys-tarfile "$(ls "$tmp"/debs/ibverbs-providers_*.deb)" | tar -x -C "$root" ./etc # which provider to load
  ln -sf dash "$root/bin/sh" # not busybox: its static shell prefers its own ip, modprobe, ... to the real ones
  cp "$(command -v busybox)" "$root/bin/busybox"
  for deb in $(busybox --list); do
    [ -e "$root/bin/$deb" ] || [ -e "$root/sbin/$deb" ] || ln -s busybox "$root/bin/$deb"
  done
}

# The meta package names the concrete one; taken are its vmlinuz and the modules that init loads.
unpack_kernel() { # work folder, root of the guest
  local tmp=$1 root=$2 package version module copy
  package=$(apt-cache depends "$KERNEL" | awk '/Depends: linux-image/{print $2; exit}')
  (cd "$tmp/kdeb" && apt-get -qq -o APT::Sandbox::User=root download "${package:-$KERNEL}")
  dpkg-deb -x "$tmp"/kdeb/*.deb "$tmp/k"
  version=$(basename "$tmp"/k/boot/vmlinuz-* | sed 's/^vmlinuz-//')
  depmod -b "$tmp/k" "$version"
  for module in virtio_pci virtio_net 9p 9pnet_virtio veth rdma_rxe rdma_ucm ib_umad crc32_generic crc32_pclmul \
    sch_netem sch_ingress cls_matchall act_mirred; do
    modprobe -d "$tmp/k" -S "$version" --show-depends "$module" 2>/dev/null | awk '$1 == "insmod" { print $2 }'
  done | sort -u | while read -r module; do
    copy=$root/lib/modules/$version/${module##*/"$version"/}
    mkdir -p "${copy%/*}"
    cp "$module" "$copy"
    case $copy in *.xz) xz -d "$copy" ;; esac
  done
  cp "$tmp/k/lib/modules/$version"/modules.{order,builtin,builtin.modinfo} "$root/lib/modules/$version/"
  depmod -b "$root" "$version"
  cp "$tmp"/k/boot/vmlinuz-* "$tmp/image/kernel"
}

# init, and the agent behind `exec`: "<bytes>\n<script>" in, merged output and "\n__rc=<status>" out.
write_init() { # root of the guest
  cat > "$1/init" <<'INIT'
#!/bin/sh
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root TERM=dumb
mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t devtmpfs dev /dev
mkdir -p /dev/pts /dev/shm; mount -t devpts devpts /dev/pts; mount -t tmpfs tmpfs /dev/shm; mount -t tmpfs tmpfs /tmp
echo root:x:0:0::/root:/bin/sh > /etc/passwd; echo root:x:0: > /etc/group; echo 127.0.0.1 localhost > /etc/hosts
for m in virtio_pci virtio_net 9pnet_virtio 9p rdma_rxe rdma_ucm ib_umad; do modprobe $m; done
ulimit -l unlimited
ip link set lo up
grep -q 52:54:00:77:00:02 /sys/class/net/eth0/address || { # the order of probing is not promised
  ip link set eth0 name eth2; ip link set eth1 name eth0; ip link set eth2 name eth1; }
ip link set eth0 up; ip addr add 10.77.0.2/24 dev eth0; ip addr add fd77::2/64 dev eth0 nodad
ip link set eth1 up; ip addr add 10.0.2.15/24 dev eth1
rdma link add rxe0 type rxe netdev eth0
mount -t 9p -o trans=virtio,version=9p2000.L,msize=262144 share /share
echo "rxe-vm: ready after $(cut -d' ' -f1 /proc/uptime) s" > /dev/console
while :; do nc -ll -p 2323 -e /agent; sleep 1; done
INIT
  cat > "$1/agent" <<'AGENT'
#!/bin/sh
read -r n && f=/tmp/cmd.$$ && head -c "$n" > $f && { sh $f </dev/null 2>&1; printf '\n__rc=%d\n' $?; rm -f $f; }
AGENT
  chmod 755 "$1/init" "$1/agent"
}

setup() {
  local program root missing=()
  for program in qemu-system-x86_64:qemu-system-x86 busybox:busybox-static modprobe:kmod cpio:cpio xz:xz-utils; do
    command -v "${program%:*}" >/dev/null || missing+=("${program#*:}")
  done
  [ ${#missing[@]} -eq 0 ] || die "missing: apt-get install -y --no-install-recommends ${missing[*]}"
  mkdir -p "$CACHE"
  exec 9> "$CACHE/lock"; flock 9 # two at once take turns
  [ ! -s "$IMAGE/initrd" ] || { exec 9>&-; return 0; }
  # In a folder of its own and published at the end: an interrupted build leaves nothing half made.
  tmp=$(mktemp -d "$CACHE/build.XXXXXX"); root=$tmp/root; trap 'rm -rf "$tmp"' EXIT
  mkdir -p "$tmp"/{debs/partial,kdeb,k,image} "$root"/usr/{bin,sbin,lib,lib64} "$root"/{dev,proc,sys,tmp,run,share,etc,root}
  for program in bin sbin lib lib64; do ln -s "usr/$program" "$root/$program"; done
  apt-cache show "$KERNEL" >/dev/null 2>&1 || apt-get -qq update
  unpack_programs "$tmp" "$root" || { apt-get -qq update; unpack_programs "$tmp" "$root"; } # old package lists
  unpack_kernel "$tmp" "$root"
  write_init "$root"
  (cd "$root" && find . | cpio --quiet -R 0:0 -o -H newc) > "$tmp/image/initrd" # not compressed: TCG is slow at unpacking
  rm -rf "$CACHE/$KERNEL"-????????
  mv "$tmp/image" "$IMAGE"
  rm -rf "$tmp"; trap - EXIT; exec 9>&-
}

make_network() {
  [ -c /dev/net/tun ] || die "no /dev/net/tun on this machine"
  ip netns add "$NAME" || die "a namespace $NAME exists that is not ours"
  ip netns add "$NAME-host" || { ip netns del "$NAME"; die "a namespace $NAME-host exists that is not ours"; }
  : > "$RUN/namespaces" # from here on they are ours to remove
  in_vm_ns ip link set lo up
  in_host_ns ip link set lo up
  in_vm_ns ip tuntap add dev tap0 mode tap
  in_vm_ns ip link add link0 type veth peer name eth0 netns "$NAME-host"
  # Each packet a frame: the relay must not lose 64 of them as one.
  in_host_ns ip link set eth0 gso_max_segs 1
  in_vm_ns sysctl -qw net.ipv6.conf.all.disable_ipv6=1
  in_vm_ns ip link set tap0 mtu "$MTU_MAX" up
  in_vm_ns ip link set link0 mtu "$MTU_MAX" up
  in_host_ns ip link set eth0 up
  in_host_ns ip addr add 10.77.0.1/24 dev eth0
  in_host_ns ip addr add fd77::1/64 dev eth0 nodad
}

start() {
  ! alive qemu || die "$NAME runs already (process $(cat "$RUN/qemu.pid"))"
  setup
  remove_network; mkdir -p "$RUN" "$SHARE"
  make_network
  link
  in_vm_ns qemu-system-x86_64 -name "$NAME" -machine pc -accel tcg,thread=multi -cpu max,la57=off -smp 2 -m "$MEM" \
    -nodefaults -no-user-config -display none -no-reboot -daemonize -pidfile "$RUN/qemu.pid" \
    -kernel "$IMAGE/kernel" -initrd "$IMAGE/initrd" -serial "file:$RUN/console" \
    -append "console=ttyS0 quiet panic=-1 mitigations=off nokaslr random.trust_cpu=on" \
    -netdev tap,id=n0,ifname=tap0,script=no,downscript=no -device "$NIC,netdev=n0,mac=52:54:00:77:00:02" \
    -netdev "user,id=n1,restrict=on,hostfwd=tcp:127.0.0.1:$PORT-10.0.2.15:2323" -device virtio-net-pci,netdev=n1 \
    -virtfs "local,path=$SHARE,mount_tag=share,security_model=none"
  local deadline=$((SECONDS + ${RXE_VM_BOOT_TIMEOUT_S:-120}))
  while [ $SECONDS -lt $deadline ]; do
    if grep -q 'rxe-vm: ready' "$RUN/console" 2>/dev/null && (vm_exec true) >/dev/null 2>&1; then
      grep -o 'rxe-vm: ready.*' "$RUN/console"
      return
    fi
    alive qemu || { tail -20 "$RUN/console"; die "QEMU ended while booting"; }
    sleep 0.2
  done
  tail -20 "$RUN/console"; die "no answer from the guest"
}

# Empty lines wait for the next one, because the agent puts one before its status. Replaces this process.
vm_exec() {
  local script=$*
  [ "$script" != - ] || script=$(cat)
  LC_ALL=C exec ip netns exec "$NAME" bash -c '
    exec 3<>/dev/tcp/127.0.0.1/$1 || exit 125
    printf "%s\n%s" "${#2}" "$2" >&3
    empty=0
    while IFS= read -r line <&3; do
      case $line in
        __rc=*) for ((; empty > 1; empty--)); do echo; done; exit "${line#__rc=}" ;;
        "") empty=$((empty + 1)) ;;
        *) for ((; empty > 0; empty--)); do echo; done; printf "%s\n" "$line" ;;
      esac
    done
    exit 125' - "$PORT" "$script"
}

set_mtu() {
  in_host_ns ip link set eth0 mtu "$1"
  vm_exec "ip link set eth0 mtu $1"
}

stop_process() { # name
  alive "$1" || return 0
  local pid
  pid=$(cat "$RUN/$1.pid")
  kill "$pid"
  while kill -0 "$pid" 2>/dev/null; do sleep 0.02; done
}

link() { # delay_ns jitter_ns loss_ppm duplicate_ppm reorder_ppm
  stop_process relay
  [ ! -e "$RUN/relay.log" ] || cat "$RUN/relay.log"
  local fate="${*:-0 0 0 0 0}"
  printf 'link0 tap0 %s 1\ntap0 link0 %s 2\n' "$fate" "$fate" > "$RUN/rules"
  ip netns exec "$NAME" setsid "$RELAY" "$RUN/rules" > "$RUN/relay.out" 2> "$RUN/relay.log" < /dev/null &
  echo $! > "$RUN/relay.pid" # ip and setsid become what they start
  until grep -q ready "$RUN/relay.out"; do alive relay || die "the relay: $(cat "$RUN/relay.log")"; sleep 0.02; done
}

remove_network() {
  [ -e "$RUN/namespaces" ] || return 0
  ip netns del "$NAME" 2>/dev/null || true
  ip netns del "$NAME-host" 2>/dev/null || true
}

stop() {
  stop_process qemu
  stop_process relay
  remove_network
  rm -rf "$RUN"
}

[ "$(id -u)" = 0 ] || die "needs root, to make network namespaces and a TAP"
command=${1:-help}; shift || true
case $command in
  setup|start|stop) "$command" ;;
  exec) alive qemu || die "not running"; vm_exec "$@" ;;
  host) exec ip netns exec "$NAME-host" "$@" ;;
  mtu) set_mtu "$1" ;;
  link) link "$@" ;;
  log) cat "$RUN/console" ;;
  *) sed -n '2,17p' "$0"; exit 2 ;;
esac
