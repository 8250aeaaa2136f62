#!/bin/sh
# run-one.sh VARIANT LIBRARIES LOGS TEST: runs one test, and prints how it ended; the log of a failed one too. `make test` runs two at once.
# TEST_TIMEOUT in seconds. As root every test has a network of its own, so that they don't meet each other's devices.
variant=$1 libraries=$2 logs=$3 test=$4
name=$(basename "$test")
log=$logs/$name.log
start=$(date +%s)

case $test in *.sh) set -- sh "$test" "$libraries" ;; *) set -- "$test" ;; esac
# Sanitizers of gcc 12 abort now and then under the wide address-space randomisation of new kernels.
case $variant in asan | tsan) ! command -v setarch >/dev/null || set -- setarch -R "$@" ;; esac
set -- timeout "${TEST_TIMEOUT:-120}" "$@"
if unshare -n ip link set lo up 2>/dev/null; then
  set -- unshare -n sh -c 'ip link set lo up && exec "$@"' sh "$@"
fi

if CMOCKA_MESSAGE_OUTPUT=${CMOCKA_MESSAGE_OUTPUT:-STDOUT} RDMAKIT_LIBS=$libraries "$@" >"$log" 2>&1; then
  echo "  ok $variant $name ($(($(date +%s) - start)) s)"
else
  result=$?
  echo "  FAILED ($result) $variant $name"
  sed 's/^/    /' "$log"
  exit 1
fi
