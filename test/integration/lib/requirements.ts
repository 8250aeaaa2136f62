/**
 * What the integration tests need of the machine. A missing thing is a failure that names it and the command that gives
 * it: a test that quietly does not run would look like one that passed.
 */

import { existsSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** The Debian package that has a program. */
const PACKAGE: Record<string, string> = {
  ip: 'iproute2',
  gcc: 'gcc',
  setpriv: 'util-linux',
  prlimit: 'util-linux',
  taskset: 'util-linux',
  unshare: 'util-linux',
  ssh: 'openssh-client',
  'ssh-keygen': 'openssh-client',
  sshd: 'openssh-server',
  ibv_devices: 'ibverbs-utils',
  ibv_asyncwatch: 'ibverbs-utils',
  ibv_devinfo: 'ibverbs-utils',
  ibv_rc_pingpong: 'ibverbs-utils',
  ibv_uc_pingpong: 'ibverbs-utils',
  ibv_ud_pingpong: 'ibverbs-utils',
  ibv_srq_pingpong: 'ibverbs-utils',
  ib_send_bw: 'perftest',
  ib_write_bw: 'perftest',
  iperf3: 'iperf3',
  ucx_perftest: 'ucx-utils',
  rping: 'rdmacm-utils',
  qperf: 'qperf',
  fi_pingpong: 'libfabric-bin',
  mpirun: 'openmpi-bin',
  mpicc: 'libopenmpi-dev',
  ibstat: 'infiniband-diags',
  nsenter: 'util-linux',
  lldpd: 'lldpd',
  lldpctl: 'lldpd',
  'redis-benchmark': 'redis-tools',
  'redis-cli': 'redis-tools',
  nginx: 'nginx-light',
  ab: 'apache2-utils',
  memccapable: 'libmemcached-tools',
  memcslap: 'libmemcached-tools',
  'nc.openbsd': 'netcat-openbsd',
  'nc.traditional': 'netcat-traditional',
  scp: 'openssh-client',
  sftp: 'openssh-client',
  javac: 'default-jdk-headless',
  java: 'default-jdk-headless',
  go: 'golang-go',
};

export const ROOT = fileURLToPath(new URL('../../../', import.meta.url));
export const PREBUILDS = join(ROOT, 'prebuilds', `linux-${process.arch}`);
/** Where the embedded libibverbs.so.1 and librdmacm.so.1 are. */
export const SOFT_DIR = join(PREBUILDS, 'softrdma');
/** What verbs-run preloads. */
export const SYSFS_SO = join(PREBUILDS, 'librdmakit_sysfs.so');

const onPath = (program: string): boolean =>
  (process.env.PATH ?? '').split(delimiter).some((folder) => existsSync(join(folder, program)));

/** Throws unless this is root, the device is built and the programs are installed. */
export function requireAll(programs: readonly string[]): void {
  if (process.getuid?.() !== 0) {
    throw new Error('needs root, to make network namespaces: run `npm test` as root');
  }
  if (!existsSync(join(SOFT_DIR, 'libibverbs.so.1'))) {
    throw new Error(`needs ${SOFT_DIR}/libibverbs.so.1: run \`make -C c\``);
  }
  const missing = ['ip', ...programs].filter((program) => !onPath(program));
  if (missing.length > 0) {
    const packages = [...new Set(missing.map((program) => PACKAGE[program] ?? program))].sort().join(' ');
    throw new Error(`needs ${missing.join(', ')}: run \`apt-get install -y ${packages}\``);
  }
}
