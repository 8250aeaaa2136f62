/** The environment of a program on the embedded device. Pure. */

import { RdmakitError } from '../errors.ts';

/** How packets of the embedded device travel: shared memory within a host, or UDP always. */
export const ROADS = ['auto', 'wire'] as const;
export type Road = (typeof ROADS)[number];

export interface Wishes {
  /** Folder of our libibverbs.so.1 and librdmacm.so.1. */
  readonly softFolder: string;
  /** librdmakit_sysfs.so, which answers /sys/class/infiniband and /dev/infiniband; absent: these are the kernel's. */
  readonly sysfsLibrary?: string | undefined;
  readonly road: Road;
  /** Artificial faults on the UDP road, as RDMAKIT_FAULT takes them. */
  readonly fault?: string | undefined;
  /** Counters on standard error when the program ends. */
  readonly report?: boolean | undefined;
}

/** Variables that verbs-run sets, on top of those that are there. What is ours comes first, what was there stays behind it. */
export function verbsEnvironment(
  wishes: Wishes,
  current: Readonly<Record<string, string | undefined>>,
): Record<string, string> {
  const { softFolder, sysfsLibrary } = wishes;
  // The loader takes apart LD_LIBRARY_PATH at colons, LD_PRELOAD at blanks too.
  if (softFolder.includes(':') || /[:\s]/.test(sysfsLibrary ?? '')) {
    throw new RdmakitError({
      kind: 'environment',
      what: `the libraries lie in ${softFolder}, and the loader's variables cannot name a folder with a colon or a blank`,
      remedy: 'install rdmakit in another folder, or copy the libraries and set RDMAKIT_LIB_DIR',
    });
  }
  const preload = current.LD_PRELOAD ?? '';
  return {
    LD_LIBRARY_PATH: first(softFolder, current.LD_LIBRARY_PATH ?? '', ':'),
    ...(sysfsLibrary === undefined ? {} : { LD_PRELOAD: first(sysfsLibrary, preload, /[:\s]+/) }),
    ...(wishes.road === 'auto' ? {} : { RDMAKIT_ROAD: wishes.road }),
    ...(wishes.fault === undefined ? {} : { RDMAKIT_FAULT: wishes.fault }),
    ...(wishes.report === true ? { RDMAKIT_REPORT: '1' } : {}),
  };
}

/** A list with `item` in front. An empty part would mean the current folder, which nobody asked for. */
function first(item: string, list: string, separator: string | RegExp): string {
  return [item, ...list.split(separator).filter((part) => part !== '' && part !== item)].join(':');
}

const FAULTS = ['loss', 'dup', 'reorder', 'corrupt'];

/**
 * `loss=1%,reorder=0.5%,seed=7` -> what RDMAKIT_FAULT takes. Shares may be percentages or fractions. Returns the reason
 * instead when the text is wrong.
 */
export function parseFault(text: string): { fault: string } | { reason: string } {
  const items: string[] = [];
  for (const item of text.split(',')) {
    const match = /^([a-z]+)=(\d+(?:\.\d+)?)(%?)$/.exec(item);
    const [, name = '', digits = '', sign] = match ?? [];
    if (match === null) return { reason: `'${item}' is not NAME=SHARE; write for example loss=1%` };
    const value = sign === '%' ? Number(digits) / 100 : Number(digits);
    if (name === 'seed' && Number.isSafeInteger(value) && sign === '') items.push(`seed=${value}`);
    else if (!FAULTS.includes(name))
      return { reason: `'${name}' is not a fault; known: ${FAULTS.join(', ')}, and seed` };
    else if (value > 1) return { reason: `${name} is more than all packets; write for example ${name}=1%` };
    else items.push(`${name}=${value}`);
  }
  return { fault: items.join(',') };
}
