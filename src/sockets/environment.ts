/** The environment of a program whose connections are accelerated. Pure. */

import { RdmakitError } from '../errors.ts';

/** Variables that socket-run sets. What was preloaded before stays, behind ours. */
export function socketEnvironment(
  library: string,
  current: Readonly<Record<string, string | undefined>>,
): Record<string, string> {
  if (/[:\s]/.test(library)) {
    throw new RdmakitError({
      kind: 'environment',
      what: `the library is ${library}, and LD_PRELOAD cannot name a file with a colon or a blank`,
      remedy: 'install rdmakit in another folder, or copy the libraries and set RDMAKIT_LIB_DIR',
    });
  }
  const others = (current.LD_PRELOAD ?? '').split(/[:\s]+/).filter((part) => part !== '' && part !== library);
  return { LD_PRELOAD: [library, ...others].join(':') };
}
