/**
 * Becoming another program. execve(2) replaces this process, so that the program has our process id, terminal, input,
 * output and parent: signals, job control and the exit status need no forwarding and cannot be got wrong.
 */

import koffi from 'koffi';
import { loadLibc } from '../../ffi/load.ts';
import { RdmakitError } from '../errors.ts';
import { errnoName } from '../verbs/doctor.ts';

/** Signals that runtimes ignore, and that a program must get with their default action; ignored ones survive an exec. */
const RESET_SIGNALS = [13 /* SIGPIPE */, 25 /* SIGXFSZ */];
const SIG_DFL = 0;
const SIG_UNBLOCK = 1;
const SIGSET_BYTES = 128;
const RLIMIT_CORE = 4;
const F_GETFD = 1;
const F_SETFD = 2;
const FD_CLOEXEC = 1;
const F_GETFL = 3;
const F_SETFL = 4;
const O_NONBLOCK = 0o4000;

/** Replaces this process by the program. Returns only by throwing. */
export function becomeProgram(
  path: string,
  argv: readonly string[],
  env: Readonly<Record<string, string | undefined>>,
): never {
  const libc = loadLibc();
  const execve = libc.func('execve', 'int', ['const char *', 'const char **', 'const char **']);
  const signal = libc.func('signal', 'void *', ['int', 'intptr_t']);
  const fcntl = libc.func('fcntl', 'int', ['int', 'int', 'int']);
  for (const text of [path, ...argv]) requireNoNul(text);
  const variables = Object.entries(env).flatMap(([name, value]) =>
    value === undefined ? [] : [`${name}=${value}`],
  );
  for (const number of RESET_SIGNALS) signal(number, SIG_DFL);
  for (const fd of [0, 1, 2]) inheritPlainly(fd, fcntl);
  execve(path, [...argv, null], [...variables, null]);
  const errno = koffi.errno();
  throw new RdmakitError({
    kind: 'environment',
    what: `${path} could not be executed: ${errnoName(errno)}`,
    cause:
      errnoName(errno) === 'ENOEXEC'
        ? 'it is neither a program for this machine nor a script that names its interpreter'
        : 'the kernel refused it',
    remedy: `look at it: file ${path}`,
  });
}

/** Ends this process as the signal ended another one. Without a core: that one has left its own. Returns when it could not. */
export function dieBySignal(number: number): void {
  const libc = loadLibc();
  const limits = new BigUint64Array(2);
  libc.func('int setrlimit(int resource, void *limits)')(RLIMIT_CORE, limits);
  libc.func('signal', 'void *', ['int', 'intptr_t'])(number, SIG_DFL);
  const set = new Uint8Array(SIGSET_BYTES);
  libc.func('int sigaddset(void *set, int number)')(set, number);
  libc.func('int pthread_sigmask(int how, void *set, void *before)')(SIG_UNBLOCK, set, null);
  libc.func('int raise(int number)')(number);
}

/** Undoes what runtimes do to the standard descriptors: Node marks them close-on-exec, others may make them non-blocking. */
function inheritPlainly(fd: number, fcntl: (fd: number, command: number, value: number) => number): void {
  const descriptor = fcntl(fd, F_GETFD, 0);
  if (descriptor >= 0 && (descriptor & FD_CLOEXEC) !== 0) fcntl(fd, F_SETFD, descriptor & ~FD_CLOEXEC);
  const status = fcntl(fd, F_GETFL, 0);
  if (status >= 0 && (status & O_NONBLOCK) !== 0) fcntl(fd, F_SETFL, status & ~O_NONBLOCK);
}

function requireNoNul(text: string): void {
  if (!text.includes('\0')) return;
  throw new RdmakitError({
    kind: 'usage',
    what: 'an argument has a NUL byte inside',
    remedy: 'leave it out',
  });
}
