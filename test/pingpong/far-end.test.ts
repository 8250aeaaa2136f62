/** Starting the answering end: command lines, announcements, and far ends that fail. */

import { describe, expect, test } from 'bun:test';
import { allowedCpus, coresForBothEnds } from '../../src/pingpong/cores.ts';
import { FarEnd, hostOfSsh, sshCommand } from '../../src/pingpong/far-end.ts';

describe('ssh', () => {
  test('words are quoted for the far shell, and the host cannot be taken for an option', () => {
    expect(sshCommand('me@box', '/opt/rdma kit', ['--expect', "it's"])).toEqual([
      'ssh',
      '-o',
      'BatchMode=yes',
      '--',
      'me@box',
      "/opt/rdma kit '--expect' 'it'\\''s'",
    ]);
  });

  test('the host to connect to', () => {
    expect(['me@box', 'box', 'me@[fe80::1]', '::1'].map(hostOfSsh)).toEqual(['box', 'box', 'fe80::1', '::1']);
  });
});

describe('FarEnd.start', () => {
  const shell = (script: string) => FarEnd.start(['sh', '-c', script], 'the other end');
  const announcement = '{"schema":"rdmakit.pingpong-listen/1","address":"127.0.0.1","port":7}';

  test('takes the announcement, and ends the process by closing its input', async () => {
    const farEnd = await shell(`echo '${announcement}'; cat >/dev/null`);
    expect([farEnd.address, farEnd.port]).toEqual(['127.0.0.1', 7]);
    await farEnd.close();
  });

  test('one that does not end is killed', async () => {
    const farEnd = await shell(`echo '${announcement}'; exec sleep 60`);
    await farEnd.close();
  });

  test('its error output is quoted when it dies', async () => {
    const failed = shell('echo no such device >&2; exit 3');
    await expect(failed).rejects.toMatchObject({ kind: 'environment', likelyCause: 'no such device' });
  });

  test('other output is refused', async () => {
    await expect(shell('echo hello; sleep 60')).rejects.toMatchObject({
      likelyCause: expect.stringContaining('hello'),
    });
    await expect(shell(`echo '{"schema":"x/1","port":1}'; sleep 60`)).rejects.toThrow(/could not be started/);
  });

  test('a program that does not exist', async () => {
    await expect(FarEnd.start(['/no/such/program'], 'the other end')).rejects.toThrow(/could not be started/);
  });

  test('a raised signal ends the wait', async () => {
    const stop = new AbortController();
    const started = FarEnd.start(['sleep', '60'], 'the other end', stop.signal);
    stop.abort(new Error('enough'));
    await expect(started).rejects.toThrow('enough');
  });
});

describe('cores', () => {
  test('the kernel list is read with its ranges', () => {
    expect(allowedCpus('Name:\tx\nCpus_allowed_list:\t0,2-4\n')).toEqual([0, 2, 3, 4]);
    expect(allowedCpus('').length).toBeGreaterThan(0);
  });

  test('two ends get two cores, or float', () => {
    expect(coresForBothEnds([3, 5, 7])).toEqual({ client: 3, server: 5 });
    expect(coresForBothEnds([3])).toEqual({ client: -1, server: -1 });
  });
});
