/** Puts the questions to this host or, through ssh, to others. */

import { spawn } from 'node:child_process';
import { RdmakitError } from '../../errors.ts';
import { inFile } from '../model/input-error.ts';
import { type Facts, QUESTIONS, readFacts } from './facts.ts';

const LIMIT_BYTES = 32 * 2 ** 20;

/** The facts of a host; `host` undefined is this one. ssh must not ask for anything: a password prompt would hang. */
export function ask(host: string | undefined, signal?: AbortSignal): Promise<Facts> {
  const [program, args] =
    host === undefined
      ? ['sh', ['-s']]
      : ['ssh', ['-o', 'BatchMode=yes', '-o', 'ConnectTimeout=10', '--', host, 'sh', '-s']];
  return new Promise((resolve, reject) => {
    const child = spawn(program as string, args as string[], {
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
        reject(
          new RdmakitError({
            kind: 'peer',
            what: `cannot ask ${host}`,
            cause: errors.trim() || `ssh ended with ${code}`,
            remedy: `see that this works without a password: ssh ${host} true`,
          }),
        );
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
