/**
 * Declarations of c/datapath's interface (datapath.h). Nothing but signatures,
 * and the check that the opened library speaks the interface they describe.
 */

import { RdmakitError } from '../src/errors.ts';
import { bind } from './bind.ts';
import { type LoadOptions, loadDatapathLibrary } from './load.ts';
import { type StructName, sizeOf } from './struct.ts';
import { ENUMS, MACROS } from './structs.generated.ts';

/** The loops and their helpers, exactly as datapath.h has them. */
export const datapath = bind('librdmakit_datapath', () => loadDatapathLibrary(), {
  rk_dp_abi: ['u32', []],
  rk_dp_sizeof: ['u64', ['u32']],
  rk_dp_stats_new: ['ptr', []],
  rk_dp_stats_free: ['void', ['ptr?']],
  rk_dp_buffer_new: ['ptr', ['u64']],
  rk_dp_buffer_free: ['i32', ['ptr', 'u64']],
  rk_dp_rx_offset: ['u64', ['u32']],
  rk_dp_rx_stride: ['u64', ['u32']],
  rk_dp_buffer_length: ['u64', ['u32', 'u32']],
  rk_dp_pattern_fill: ['void', ['ptr', 'u32', 'u64', 'u64', 'u32']],
  rk_dp_pattern_check: ['i64', ['ptr', 'u32', 'u64', 'u64', 'u32']],
  rk_dp_pingpong_start: ['i32', ['buf', 'ptr', 'buf']],
  rk_dp_sockpp_start: ['i32', ['buf', 'ptr', 'buf']],
  rk_dp_stream_start: ['i32', ['buf', 'ptr', 'buf']],
  rk_dp_rping_start: ['i32', ['buf', 'str', 'ptr', 'ptr', 'buf']],
  rk_dp_cm_open: ['i32', ['str']],
  rk_dp_loop_stop: ['void', ['ptr']],
  rk_dp_loop_poll: ['i32', ['ptr']],
  rk_dp_loop_join: ['i32', ['ptr']],
  rk_dp_socket_listen: ['i32', ['u32', 'str', 'buf']],
  rk_dp_socket_connect: ['i32', ['u32', 'str', 'u16', 'u32']],
  rk_dp_socket_close: ['i32', ['i32']],
  rk_dp_clock_info: ['i32', ['buf']],
  rk_dp_shutdown: ['void', []],
});

const CHECKED: readonly [keyof typeof ENUMS.rk_dp_struct, StructName][] = [
  ['RK_DP_SIZEOF_STATS', 'rk_dp_stats'],
  ['RK_DP_SIZEOF_PINGPONG', 'rk_dp_pingpong'],
  ['RK_DP_SIZEOF_SOCKPP', 'rk_dp_sockpp'],
  ['RK_DP_SIZEOF_STREAM', 'rk_dp_stream'],
  ['RK_DP_SIZEOF_HIST', 'rk_hist'],
  ['RK_DP_SIZEOF_CLOCK_INFO', 'rk_dp_clock_info'],
  ['RK_DP_SIZEOF_RPING', 'rk_dp_rping'],
  ['RK_DP_SIZEOF_RPING_INFO', 'rk_dp_rping_info'],
];

let checked = false;

/**
 * Opens the data path library on the chosen provider and checks that it is of
 * this version. Throws a {@link RdmakitError} when it is not.
 */
export function loadDatapath(options: LoadOptions = {}): typeof datapath {
  loadDatapathLibrary(options);
  if (checked) return datapath;
  const abi = datapath.rk_dp_abi();
  if (abi !== MACROS.RK_DP_ABI) {
    throw stale(`librdmakit_datapath.so has interface ${abi}, this rdmakit needs ${MACROS.RK_DP_ABI}`);
  }
  for (const [key, name] of CHECKED) {
    const bytes = Number(datapath.rk_dp_sizeof(ENUMS.rk_dp_struct[key]));
    if (bytes !== sizeOf(name)) {
      throw stale(`struct ${name} has ${bytes} bytes in librdmakit_datapath.so and ${sizeOf(name)} here`);
    }
  }
  checked = true;
  return datapath;
}

function stale(what: string): RdmakitError {
  const cause = 'the library was built from other sources';
  return new RdmakitError({ kind: 'environment', what, cause, remedy: 'make -C c && npm run gen' });
}
