/** The typed verbs objects, the side channel and the C loops on the runtime under test. */

import { describe, expect, setDefaultTimeout, test } from 'bun:test';
import { entryFor, finish, runtime, start } from './start.ts';

setDefaultTimeout(60_000);
const script = entryFor('test/smoke/verbs-script.ts');

describe(runtime, () => {
  test('connects queue pairs, runs loops between them, closes all, and ends', async () => {
    const { code, out, err } = await finish(start(script, []));
    // Node may warn on stderr about colour variables; that is no matter here.
    expect({ code, err: code === 0 ? '' : err }).toEqual({ code: 0, err: '' });
    expect(JSON.parse(out)).toEqual({
      message: '',
      completed: 20,
      mismatches: 0,
      verified: true,
      event: null,
      // Empty, or zeros where the runtime cannot detach it: a late reader must not crash.
      lateByte: 0,
    });
  });
});
