/** Files that the programs need, in a folder that every user may read: compiled programs, unpacked tests, the agents of mpirun. */

import { cpSync, existsSync, mkdtempSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { mustRun } from '../lib/process.ts';

export interface Prepared {
  osu: string;
  verbsScript: string;
  rshServer: string;
  rshClient: string;
  rdmaCoreTests: string;
  remove(): void;
}

const HERE = fileURLToPath(new URL('./', import.meta.url));
/** Where the package of pyverbs puts rdma-core's own test suite, most of it packed. */
const SHIPPED = '/usr/share/doc/rdma-core/tests';

export async function prepare(): Promise<Prepared> {
  if (!existsSync(SHIPPED))
    throw new Error(
      `needs ${SHIPPED} of python3-pyverbs: install it without dpkg's path-exclude of documentation`,
    );
  // Not in /tmp, which containers may hide.
  const folder = mkdtempSync(join('/var/tmp', `rk${process.pid}-compat-`));
  const remove = (): void => rmSync(folder, { recursive: true, force: true });
  process.on('exit', remove);
  const tests = join(folder, 'tests');
  cpSync(SHIPPED, tests, { recursive: true, dereference: true });
  await mustRun(['sh', '-c', `gunzip ${tests}/*.gz`]);
  for (const name of ['verbs.py', 'rsh-server.py', 'rsh-client.py'])
    cpSync(join(HERE, name), join(folder, name));
  const osu = join(folder, 'osu');
  await mustRun(['mpicc', '-O2', '-Wall', '-Wextra', '-Werror', join(HERE, 'osu.c'), '-o', osu], {
    limit_ms: 60_000,
  });
  await mustRun(['chmod', '-R', 'a+rX', folder]);
  return {
    osu,
    verbsScript: join(folder, 'verbs.py'),
    rshServer: join(folder, 'rsh-server.py'),
    rshClient: join(folder, 'rsh-client.py'),
    rdmaCoreTests: tests,
    remove,
  };
}
