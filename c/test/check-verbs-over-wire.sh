#!/bin/sh
# The verbs tests that hold on either road, over RoCEv2 on the loopback interface: processes of one host use UDP when told to.
# Run by `make test` in c/, after the tests were built.
set -u
# In a network namespace of its own where that is allowed: UDP 4791 is shared, and a stranger's process that takes part in it without
# being in our registry gets some of our packets.
shell='sh -c' up=
if unshare -n ip link set lo up 2>/dev/null; then
	shell='unshare -n sh -c' up='ip link set lo up && '
fi
failed=
for name in data order retry windows ud states cq ex threads faults xrc; do
	test="build/release/test/test-verbs-$name"
	[ -x "$test" ] || continue
	if ! out=$(RDMAKIT_ROAD=wire timeout 100 $shell "${up}exec $test" 2>&1); then
		echo "$name over the wire:"
		echo "$out"
		failed="$failed $name"
	fi
done
[ -z "$failed" ]
