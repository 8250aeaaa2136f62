/** Programs that move files and measure: curl, sockperf, rsync, openssh, stress-ng. */

import { randomBytes } from 'node:crypto';
import { chmodSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { mustRun } from '../lib/process.ts';
import type { Bench } from './bench.ts';
import { mustSay, type Row } from './row.ts';

export const NEEDED = [
  'python3',
  'curl',
  'sockperf',
  'rsync',
  'ssh',
  'sftp',
  'ssh-keygen',
  'sshd',
  'stress-ng',
];

const FILE_BYTES = 10_000_000;
const LIMIT_MS = 30_000;

/** A file to be moved, in a folder of its own. */
function source(bench: Bench): string {
  const folder = join(bench.folder, 'source');
  mkdirSync(folder);
  writeFileSync(join(folder, 'file'), randomBytes(FILE_BYTES));
  writeFileSync(join(folder, 'small'), randomBytes(1000));
  return folder;
}

function mustBeEqual(a: string, b: string): void {
  if (!readFileSync(a).equals(readFileSync(b))) throw new Error(`${b} differs`);
}

async function sockperf(bench: Bench, ...protocol: string[]): Promise<void> {
  const port = bench.port();
  const at = [...protocol, '-i', bench.address, '-p', `${port}`];
  await bench.server(['sockperf', 'sr', ...at], { port, stop: 'SIGINT' });
  const text = await bench.client(['sockperf', 'pp', ...at, '-t', '1', '--mps', '1000']);
  mustSay(text, /# dropped messages = 0; # duplicated messages = 0; # out-of-order messages = 0/);
}

/** sshd of its own, for this user and one key; gives what ssh and sftp need to be told. */
async function sshd(bench: Bench): Promise<{ port: number; options: string[] }> {
  const { folder } = bench;
  const port = bench.port();
  for (const name of ['host', 'key'])
    await mustRun(['ssh-keygen', '-q', '-t', 'ed25519', '-N', '', '-f', join(folder, name)], {
      limit_ms: LIMIT_MS,
    });
  mkdirSync('/run/sshd', { recursive: true });
  const config = join(folder, 'sshd_config');
  writeFileSync(
    config,
    `Port ${port}\nListenAddress 0.0.0.0\nHostKey ${folder}/host\nAuthorizedKeysFile ${folder}/key.pub\nStrictModes no\nUsePAM no\n` +
      `PermitRootLogin yes\nPasswordAuthentication no\nPidFile ${folder}/sshd.pid\nSubsystem sftp internal-sftp\n`,
  );
  await bench.server(['/usr/sbin/sshd', '-D', '-e', '-f', config], { port });
  chmodSync(join(folder, 'key'), 0o600);
  const options = ['-F', 'none', '-i', join(folder, 'key')];
  for (const each of [
    'StrictHostKeyChecking=no',
    'UserKnownHostsFile=/dev/null',
    'BatchMode=yes',
    'LogLevel=ERROR',
  ])
    options.push('-o', each);
  return { port, options };
}

const PYTHON = ['python3', '-m', 'http.server', '--protocol', 'HTTP/1.1'];
export const ROWS: Row[] = [
  {
    from: 'python3, curl',
    program: 'python3 -m http.server, curl',
    async run(bench) {
      const folder = source(bench);
      const port = bench.port();
      await bench.server([...PYTHON, '--directory', folder, `${port}`], { port });
      const url = `http://${bench.address}:${port}`;
      const got = join(bench.folder, 'got');
      // One connection for all of them.
      const small = Array.from({ length: 20 }, () => ['-o', '/dev/null', `${url}/small`]).flat();
      await bench.client(['curl', '-sS', '--fail', ...small, '-o', got, `${url}/file`]);
      mustBeEqual(join(folder, 'file'), got);
    },
  },
  { from: 'sockperf', program: 'sockperf ping-pong --tcp', run: (bench) => sockperf(bench, '--tcp') },
  {
    from: 'sockperf',
    program: 'sockperf ping-pong (UDP)',
    run: (bench) => sockperf(bench),
  },
  {
    from: 'rsync',
    program: 'rsync --daemon, rsync',
    async run(bench) {
      const folder = source(bench);
      const port = bench.port();
      const config = join(bench.folder, 'rsyncd.conf');
      writeFileSync(
        config,
        `use chroot = no\nuid = 0\ngid = 0\n[files]\npath = ${folder}\nread only = yes\n`,
      );
      await bench.server(['rsync', '--daemon', '--no-detach', `--config=${config}`, `--port=${port}`], {
        port,
      });
      const got = join(bench.folder, 'got');
      await bench.client(['rsync', '-a', `rsync://${bench.address}:${port}/files/`, `${got}/`]);
      mustBeEqual(join(folder, 'file'), join(got, 'file'));
    },
  },
  {
    from: 'openssh-server, openssh-client',
    program: 'sshd, ssh and sftp',
    async run(bench) {
      const folder = source(bench);
      const { port, options } = await sshd(bench);
      const to = `root@${bench.address}`;
      const got = join(bench.folder, 'got');
      const command = ['ssh', ...options, '-p', `${port}`, to, `cat ${folder}/file`];
      await bench.client(['sh', '-c', `${command.map((word) => `'${word}'`).join(' ')} >${got}`]);
      mustBeEqual(join(folder, 'file'), got);
      const batch = join(bench.folder, 'batch');
      writeFileSync(batch, `put ${folder}/file ${bench.folder}/put\n`);
      await bench.client(['sftp', ...options, '-q', '-P', `${port}`, '-b', batch, to]);
      mustBeEqual(join(folder, 'file'), join(bench.folder, 'put'));
    },
  },
  {
    from: 'stress-ng',
    program: 'stress-ng --sock 2 --verify',
    not: ['client plain', 'server plain', 'other host'],
    note: 'both ends are one program',
    async run(bench) {
      await bench.client(['stress-ng', '--sock', '2', '--sock-ops', '400', '--verify', '--timeout', '20']);
    },
  },
];
