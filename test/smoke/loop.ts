/** A command line of one command that prints until told to stop: the entry of process.test.ts, not a test itself. */

import * as v from 'valibot';
import { defineCommand } from '../../src/cli/command.ts';
import { defineDocument } from '../../src/cli/documents.ts';
import { main } from '../../src/cli/main.ts';
import { flag, integer } from '../../src/cli/options.ts';

const Loop = defineDocument('loop', 1, v.object({ lines: v.number() }));

const loop = defineCommand({
  name: 'loop',
  summary: 'print lines',
  description: ['Prints lines.'],
  options: {
    lines: integer({ doc: 'how many', default: '2000' }),
    pause: flag({ doc: 'wait 5 ms between lines' }),
    graceful: flag({ doc: 'stop early when asked, then print a summary' }),
  },
  documents: true,
  examples: [],
  async run({ options }, io) {
    const signal = options.graceful ? io.stop : undefined;
    let lines = 0;
    while (lines < options.lines && !signal?.aborted) {
      io.line(`${lines}`.padEnd(99, '.'));
      lines += 1;
      if (options.pause) await new Promise((resolve) => setTimeout(resolve, 5));
    }
    io.line('summary');
    io.result(Loop, { lines });
    io.note('cleaned up');
  },
});

await main([{ name: 'loop', summary: loop.summary, load: async () => ({ spec: loop }) }]);
