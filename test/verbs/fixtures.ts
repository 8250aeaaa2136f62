/** Values that several tests describe a device with. */

import type { PortAttributes } from '../../src/verbs/types.ts';

/** An active RoCE port with an Ethernet MTU of 1500. */
export const port: PortAttributes = {
  port: 1,
  state: 'ACTIVE',
  physicalState: 'link up',
  linkLayer: 'Ethernet',
  maxMtuBytes: 4096,
  activeMtuBytes: 1024,
  gidTableLength: 16,
  pkeyTableLength: 1,
  lid: 0,
  smLid: 0,
  maxMessageBytes: 1 << 30,
  linkSpeedBps: 25e9,
  activeWidth: 1,
  activeSpeed: 32,
};
