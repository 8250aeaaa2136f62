/**
 * socket-run in a container of a user without rights: namespaces of its own, no capabilities, no way to new ones, 64 KiB of locked memory,
 * nothing to be written but (in the first case) a temporary folder, and no /dev/shm.
 */

import { expect, setDefaultTimeout, test } from 'bun:test';
import { fileURLToPath } from 'node:url';
import { runtimes } from '../../scripts/runtimes.mjs';
import { mustRun } from './lib/process.ts';
import { ROOT, requireAll } from './lib/requirements.ts';

const LIMIT_MS = 60_000;
setDefaultTimeout(LIMIT_MS);
const NOBODY = '65534';
const ECHO = fileURLToPath(new URL('./programs/asyncio-echo.py', import.meta.url));

/** What a container makes before it gives up its rights. `$WRITABLE`: ro or rw. */
const SET_UP = `set -e
mount --make-rprivate /
mount -t tmpfs -o ro none /dev/shm
for folder in /tmp /var/tmp /run; do mount -t tmpfs -o $WRITABLE none $folder; done
mount -o remount,bind,ro /
ip link set lo up
ulimit -l 64
exec setpriv --bounding-set=-all --inh-caps=-all --no-new-privs "$@"`;

/** TCP by asyncio, UDP by sockperf, both checked by the programs; standard output is theirs alone. */
const PROGRAMS = `set -e
python3 ${ECHO} serve 7000 & tcp=$!
sockperf sr -i 127.0.0.1 -p 7001 >/dev/null & udp=$!
until ss -Hltn | grep -q :7000 && ss -Hlun | grep -q :7001; do sleep 0.05; done
python3 ${ECHO} ask 127.0.0.1 7000
sockperf pp -i 127.0.0.1 -p 7001 -t 1 --mps 2000 | grep -q 'dropped messages = 0'
kill $tcp; kill -INT $udp
grep CapEff /proc/self/status; ulimit -l`;

/** All files but the runtime's own cache. */
const LEFT = "find /tmp /var/tmp /dev/shm -mindepth 1 -not -path '/tmp/.bun*'";

/** What the programs say, and then the report. */
async function inContainer(writable: 'rw' | 'ro'): Promise<string> {
  const run = `${runtimes.bun} ${ROOT}src/cli.ts socket-run --report -- bash -c "$PROGRAMS" 2>&1; echo left:; ${LEFT}`;
  const as = ['setpriv', '--reuid', NOBODY, '--regid', NOBODY, '--clear-groups'];
  const spaces = [
    '--user',
    '--map-root-user',
    '--mount',
    '--net',
    '--pid',
    '--fork',
    '--mount-proc',
    '--kill-child',
  ];
  const argv = [...as, 'unshare', ...spaces, 'bash', '-c', SET_UP, 'sh', 'bash', '-c', run];
  return await mustRun(argv, { env: { PROGRAMS, WRITABLE: writable, HOME: '/tmp' }, limit_ms: LIMIT_MS });
}

const RESTRICTED = /^1200 messages came back\nCapEff:\t0{16}\n64\n/;
/** Rows of the report of this protocol and road. */
const rows = (text: string, protocol: string, road: string): number =>
  text.split('\n').filter((line) => new RegExp(`^ *\\d+ +\\S+ +${protocol} +\\S+ +\\S+ +${road} `).test(line))
    .length;

test('with a folder for temporary files: connections and datagrams take rings, no memory is left', async () => {
  requireAll(['unshare', 'setpriv', 'python3', 'sockperf', 'ss']);
  const text = await inContainer('rw');
  expect(text).toMatch(RESTRICTED);
  expect(rows(text, 'tcp', 'ring')).toBeGreaterThanOrEqual(8);
  expect(rows(text, 'udp', 'ring')).toBeGreaterThanOrEqual(2);
  // The list of processes, which holds none any more.
  expect(text).toMatch(/\nleft:\n\/tmp\/rdmakit-0\n\/tmp\/rdmakit-0\/sockets-\d+\n$/);
});

test('with nothing to write to: everything works in the kernel, and the report says why', async () => {
  const text = await inContainer('ro');
  expect(text).toMatch(RESTRICTED);
  expect(rows(text, 'tcp', 'ring')).toBe(0);
  expect(rows(text, 'tcp', 'kernel')).toBeGreaterThanOrEqual(8);
  expect(text).toContain('no-memory: the shared memory could not be opened');
});
