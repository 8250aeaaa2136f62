/** Reaching other hosts through ssh, with what the user's own ssh needs. */

import { RdmakitError } from '../../errors.ts';

/** ssh with its options, as words: `ssh -i key`. */
export type Ssh = readonly string[];

/** What --ssh says; split at blanks as in GIT_SSH_COMMAND without quoting. */
export function sshWords(text: string): Ssh {
  return text.trim().split(/\s+/).filter(Boolean);
}

/**
 * The command that runs `command` (one word for the remote shell) on `host`: HOST, USER@HOST, ssh://USER@HOST:PORT. ssh must not
 * ask for anything: a password prompt would hang.
 */
export function sshCommand(ssh: Ssh, host: string, command: string): string[] {
  return [...ssh, '-o', 'BatchMode=yes', '-o', 'ConnectTimeout=10', '--', host, command];
}

export function sshFailure(ssh: Ssh, host: string, errors: string, code: number | null): RdmakitError {
  return new RdmakitError({
    kind: 'peer',
    what: `cannot ask ${host}`,
    cause: errors.trim().split('\n').slice(-3).join('; ') || `ssh ended with ${code}`,
    remedy: `see that this works without a password: ${ssh.join(' ')} ${host} true`,
  });
}
