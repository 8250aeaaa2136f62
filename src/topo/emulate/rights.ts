/** What an emulation needs of the user, and how to get it. */

import { RdmakitError } from '../../errors.ts';

const REMEDY =
  'run it with sudo, or without root in a shell of its own: unshare --user --map-root-user --net --mount ' +
  "sh -c 'mount -t tmpfs none /run; exec sh'";

/** Throws unless the user is root, of the machine or of a user namespace. */
export function needRoot(): void {
  if (process.getuid?.() === 0) return;
  throw new RdmakitError({
    kind: 'environment',
    what: 'network namespaces need root',
    cause: `this process runs as user ${process.getuid?.() ?? '?'} and may not make them`,
    remedy: REMEDY,
  });
}

/** The error of a root that may not write to /run: that of a user namespace in which /run is still the machine's. */
export function notWritable(folder: string, from: NodeJS.ErrnoException): RdmakitError {
  return new RdmakitError({
    kind: 'environment',
    what: `cannot write to ${folder}`,
    cause: `${from.code}; to the root of a user namespace, /run must be a file system of its own`,
    remedy: REMEDY,
    from,
  });
}
