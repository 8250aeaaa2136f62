#!/bin/sh
# The verbs tests that hold on either road, over RoCEv2 on the loopback interface: processes of one host use UDP when told to.
# Run by `make test` in c/, after the tests were built.
set -u
failed=
for name in data order retry windows ud states cq ex threads; do
	test="build/release/test/test-verbs-$name"
	[ -x "$test" ] || continue
	if ! out=$(RDMAKIT_ROAD=wire timeout 100 "$test" 2>&1); then
		echo "$name over the wire:"
		echo "$out"
		failed="$failed $name"
	fi
done
[ -z "$failed" ]
