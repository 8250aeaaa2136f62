#!/bin/sh
# Compares what our drop-in libraries export with the checked-in list of the originals: a name, version or kind that is
# missing would stop some program at load time. Also: nothing beyond the lists leaks out, soname and nodelete are right.
# usage: check-exports.sh DIR   (DIR holds softrdma/libibverbs.so.1 and softrdma/librdmacm.so.1)
set -eu
dir=$1
here=$(cd "$(dirname "$0")" && pwd)
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
LC_ALL=C
export LC_ALL
rc=0
for lib in libibverbs librdmacm; do
	so=$dir/softrdma/$lib.so.1
	[ -e "$so" ] || { echo "$so was not built"; rc=1; continue; }
	# Version nodes are objects in the absolute section; everything else that is defined is an export.
	readelf --dyn-syms -W "$so" | awk 'NR > 3 && $7 != "UND" && $7 != "ABS" { print $8, $4 }' | sort >"$tmp/have"
	grep -v '^#' "$here/data/exports-$lib.txt" | sort >"$tmp/want"
	comm -13 "$tmp/have" "$tmp/want" >"$tmp/missing"
	# The later private nodes are ours to fill; sr_/rk_ names are declared additions.
	comm -23 "$tmp/have" "$tmp/want" | grep -vE '@IBVERBS_PRIVATE_(57|59|64|65) |@@?RDMAKIT_' >"$tmp/extra" || :
	if [ -s "$tmp/missing" ]; then echo "$lib: missing:"; cat "$tmp/missing"; rc=1; fi
	if [ -s "$tmp/extra" ]; then echo "$lib: unexpected:"; cat "$tmp/extra"; rc=1; fi
	readelf -d "$so" >"$tmp/dynamic"
	grep -q "soname: \[$lib.so.1\]" "$tmp/dynamic" || { echo "$lib: wrong soname"; rc=1; }
	grep -q 'NODELETE' "$tmp/dynamic" || { echo "$lib: not linked with -z nodelete"; rc=1; }
	echo "$lib: $(wc -l <"$tmp/want") symbols wanted, $(wc -l <"$tmp/missing") missing"
done
exit $rc
