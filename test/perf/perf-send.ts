/** RC SEND of 64 bytes and back on this machine, against busy-polling kernel TCP and UCX over shared memory. */

import type { Effort, Plan } from './harness.ts';
import { pingpongHere, ucxTagRtt_us } from './tools.ts';

const SIZE = 64;

export const plan = ({ rounds, duration_ms, scale }: Effort): Plan => {
  const choice = { size_bytes: SIZE, duration_ms };
  const iterations = Math.round(400_000 * scale);
  return {
    title: 'RC SEND 64 B, round trip on one host, polling, p50',
    rounds,
    probes: [
      {
        name: 'rc-send',
        unit: 'us',
        sample: () => pingpongHere({ ...choice, transport: 'rc', wait: 'polling' }),
      },
      {
        name: 'tcp-busy',
        unit: 'us',
        sample: () => pingpongHere({ ...choice, transport: 'tcp', wait: 'busy-polling' }),
      },
      { name: 'ucx-posix', unit: 'us', sample: () => ucxTagRtt_us('posix', SIZE, iterations) },
      { name: 'ucx-sysv', unit: 'us', sample: () => ucxTagRtt_us('sysv', SIZE, iterations) },
    ],
    targets: [
      { probe: 'rc-send', comparison: '<=', limit: 0.5 },
      { probe: 'rc-send', comparison: '<=', limit: 0.1, of: 'tcp-busy' },
      { probe: 'rc-send', comparison: '<=', limit: 1, of: 'ucx-posix' },
      { probe: 'rc-send', comparison: '<=', limit: 1, of: 'ucx-sysv' },
    ],
  };
};
