#!/bin/sh
# Every RDMA program and plug-in that is installed here must resolve all its symbols, bound at start, with our libraries
# before the system's. A host without any of them has nothing to check, which is said.
# usage: check-programs.sh DIR
set -eu
dir=$1/softrdma
rc=0
n=0
tmp=$(mktemp)
trap 'rm -f "$tmp"' EXIT
lib=/usr/lib/$(uname -m)-linux-gnu
for f in /usr/bin/ibv_* /usr/bin/ib_* /usr/bin/raw_ethernet_* /usr/bin/rping /usr/bin/ucmatose /usr/bin/udaddy /usr/bin/mckey \
	/usr/bin/rstream /usr/bin/riostream /usr/bin/rcopy /usr/bin/udpong /usr/bin/cmtime /usr/bin/rdma_* /usr/bin/ucx_* \
	"$lib"/libmlx5.so.1 "$lib"/libmlx4.so.1 "$lib"/libefa.so.1 "$lib"/libmana.so.1 "$lib"/libfabric.so.1 \
	"$lib"/libibverbs/*.so "$lib"/ucx/libuct_*.so /usr/lib/python3/dist-packages/pyverbs/*.so; do
	[ -e "$f" ] || continue
	case $(head -c 4 "$f" | od -An -c) in *E*L*F*) ;; *) continue ;; esac
	n=$((n + 1))
	# ldd -r reports what is missing on stderr or in its listing, and succeeds all the same.
	LD_LIBRARY_PATH=$dir LD_BIND_NOW=1 ldd -r "$f" >"$tmp" 2>&1 || :
	# A Python extension gets Py* from the interpreter that loads it.
	if grep -E 'undefined symbol|not found|not defined|no version information' "$tmp" | grep -vE 'undefined symbol: _?Py' |
		grep . >"$tmp.bad"; then
		echo "$f:"
		cat "$tmp.bad"
		rc=1
	fi
	if grep -q 'libibverbs.so.1 =>' "$tmp" && ! grep -q "libibverbs.so.1 => $dir/" "$tmp"; then
		echo "$f: takes another libibverbs.so.1"
		rc=1
	fi
	rm -f "$tmp.bad"
done
if [ "$n" = 0 ]; then echo "no RDMA program is installed here"; else echo "$n programs and plug-ins checked"; fi
exit $rc
