/** Which device and GID serve a connection: the ones that own the address the side channel runs over. */

import { RdmakitError } from '../errors.ts';
import { type Context, type GidEntry, listDevices, openDevice, type ProviderChoice } from '../verbs/index.ts';
import type { PlanLimits } from './rows.ts';

export interface DeviceWish {
  readonly provider?: ProviderChoice | undefined;
  /** By name; the one that owns the address when absent. */
  readonly device?: string | undefined;
  readonly gidIndex?: number | undefined;
}

export interface OpenedDevice {
  readonly context: Context;
  readonly gid: GidEntry;
  /** Why this GID, in words for people. */
  readonly reason: string;
  readonly limits: PlanLimits;
}

const PORT = 1;

/** Opens the device for a side channel between two addresses. The caller closes the context. */
export function openFor(localAddress: string, remoteAddress: string, wish: DeviceWish): OpenedDevice {
  const provider = wish.provider ?? 'auto';
  const local = withoutZone(localAddress);
  const name = wish.device ?? ownerOf(local, provider);
  const context = openDevice(name === undefined ? { provider } : { provider, device: name });
  try {
    return describe(context, local, withoutZone(remoteAddress), wish);
  } catch (error) {
    context.close();
    throw error;
  }
}

/** `fe80::1%eth0` -> `fe80::1`: GIDs have no zone. */
function withoutZone(address: string): string {
  return address.replace(/%.*$/, '');
}

function describe(
  context: Context,
  localAddress: string,
  remoteAddress: string,
  wish: DeviceWish,
): OpenedDevice {
  const port = context.queryPort(PORT);
  if (port.state !== 'ACTIVE') {
    throw new RdmakitError({
      kind: 'environment',
      what: `port ${PORT} of ${context.name} is ${port.state}, not ACTIVE`,
      cause: 'its network interface is down or has no link',
      remedy: 'bring the interface up (ip link set NAME up), or choose another --device',
    });
  }
  const own = context.gids(PORT).some((entry) => entry.address === localAddress);
  const wishes =
    wish.gidIndex !== undefined
      ? { index: wish.gidIndex }
      : own
        ? { address: localAddress }
        : { peer: remoteAddress };
  const { entry, reason } = context.chooseGid(PORT, wishes);
  return {
    context,
    gid: entry,
    reason,
    limits: {
      mtu_bytes: port.activeMtuBytes,
      max_message_bytes: port.maxMessageBytes,
      atomics: context.queryDevice().atomics !== 'none',
    },
  };
}

/** Name of the device that has this address among its GIDs. */
function ownerOf(address: string, provider: ProviderChoice): string | undefined {
  for (const { name } of listDevices({ provider })) {
    const context = openDevice({ provider, device: name });
    try {
      if (context.gids(PORT).some((entry) => entry.address === address)) return name;
    } finally {
      context.close();
    }
  }
  return undefined;
}

/** What both ends can do. */
export function commonLimits(a: PlanLimits, b: PlanLimits): PlanLimits {
  const messages = [a.max_message_bytes, b.max_message_bytes].filter((bytes) => bytes > 0);
  return {
    mtu_bytes: Math.min(a.mtu_bytes, b.mtu_bytes),
    max_message_bytes: messages.length === 0 ? 0 : Math.min(...messages),
    atomics: a.atomics && b.atomics,
  };
}
