/** Puts the questions to this host or, through ssh, to others. */

import { spawn } from 'node:child_process';
import { RdmakitError } from '../../errors.ts';
import { inFile } from '../model/input-error.ts';
import { type Facts, QUESTIONS, readFacts } from './facts.ts';
import { type Ssh, sshCommand, sshFailure } from './ssh.ts';

const LIMIT_BYTES = 32 * 2 ** 20;

/** The facts of a host; `host` undefined is this one. */
export function ask(host: string | undefined, ssh: Ssh = ['ssh'], signal?: AbortSignal): Promise<Facts> {
  const [program = '', ...args] = host === undefined ? ['sh', '-s'] : sshCommand(ssh, host, 'sh -s');
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, {
      stdio: ['pipe', 'pipe', 'pipe'],
      ...(signal ? { signal } : {}),
    });
    let [output, errors] = ['', ''];
    child.stdout.on('data', (chunk) => {
      output += chunk;
      if (output.length > LIMIT_BYTES) child.kill();
    });
    child.stderr.on('data', (chunk) => {
      errors = (errors + chunk).slice(-2000);
    });
    child.on('error', (error) =>
      reject(
        new RdmakitError({
          kind: 'environment',
          what: `cannot run ${program}`,
          cause: error.message,
          remedy: 'install it',
          from: error,
        }),
      ),
    );
    child.on('close', (code) => {
      if (code !== 0 && host !== undefined) {
        reject(sshFailure(ssh, host, errors, code));
        return;
      }
      try {
        resolve(inFile(host ?? 'this host', 'an answer', () => readFacts(output)));
      } catch (error) {
        reject(error);
      }
    });
    child.stdin.on('error', () => undefined);
    child.stdin.end(QUESTIONS);
  });
}
