/** `topo`: devices of this machine, and the network around them as a graph. One file a subcommand in topo/. */

import { defineGroup } from '../cli/command.ts';
import { balanceSpec } from './topo/balance.ts';
import { convertSpec } from './topo/convert.ts';
import { devicesSpec } from './topo/devices.ts';
import { diffSpec } from './topo/diff.ts';
import { discoverSpec } from './topo/discover.ts';
import { drawSpec } from './topo/draw.ts';
import { downSpec, execSpec, listSpec, upSpec } from './topo/emulate.ts';
import { generateSpec } from './topo/generate.ts';
import { hostSpec } from './topo/host.ts';
import { overlaySpec } from './topo/overlay.ts';
import { pathsSpec } from './topo/paths.ts';
import { probeSpec } from './topo/probe.ts';

export const spec = defineGroup({
  name: 'topo',
  summary: 'show RDMA devices; generate, draw, predict and emulate networks',
  description: [
    'Shows the RDMA devices of this machine, and works with networks as graphs: generates them, translates between ' +
      'formats, draws them, predicts the paths and loads of flows, and emulates them with network namespaces.',
    'The subcommands pass the graph along as JSON documents rdmakit.topo/1; every FILE may also be any other format that ' +
      'convert reads, and - is standard input.',
  ],
  subcommands: [
    devicesSpec,
    hostSpec,
    discoverSpec,
    diffSpec,
    generateSpec,
    convertSpec,
    drawSpec,
    overlaySpec,
    pathsSpec,
    balanceSpec,
    upSpec,
    downSpec,
    execSpec,
    listSpec,
    probeSpec,
  ],
});
