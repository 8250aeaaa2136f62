/** What a failed write to stdout means: nothing when the reader has gone (`| head`), otherwise a full disk or the like. */

import { RdmakitError } from '../errors.ts';

/** The error to report, or undefined for a closed pipe. Runtimes differ in whether `code` is set. */
export function outputError(error: unknown): RdmakitError | undefined {
  const { code, message } = error as NodeJS.ErrnoException;
  if (code === 'EPIPE' || /broken pipe/i.test(message)) return undefined;
  return new RdmakitError({
    kind: 'environment',
    what: 'cannot write the output',
    cause: message,
    remedy: 'make room where standard output goes, or send it elsewhere',
    from: error,
  });
}
