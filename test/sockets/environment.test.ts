import { describe, expect, test } from 'bun:test';
import { socketEnvironment } from '../../src/sockets/environment.ts';

describe('the environment of socket-run', () => {
  test('our library comes first and only once', () => {
    expect(socketEnvironment('/l/v.so', {})).toEqual({ LD_PRELOAD: '/l/v.so' });
    expect(socketEnvironment('/l/v.so', { LD_PRELOAD: 'a.so /l/v.so:b.so' })).toEqual({
      LD_PRELOAD: '/l/v.so:a.so:b.so',
    });
  });

  test('a name that the loader would take apart is refused', () => {
    expect(() => socketEnvironment('/my libs/v.so', {})).toThrow('colon or a blank');
  });
});
