/** `topo draw`: a topology as a picture. */

import { writeFileSync } from 'node:fs';
import { defineCommand, usageError } from '../../cli/command.ts';
import type { Io } from '../../cli/io.ts';
import { flag, text } from '../../cli/options.ts';
import { RdmakitError } from '../../errors.ts';
import { toPng } from '../../topo/draw/png.ts';
import { drawSvg } from '../../topo/draw/svg.ts';
import { drawText } from '../../topo/draw/text.ts';
import { readTopology } from '../../topo/formats/index.ts';
import { FILE, fromOption } from './shared.ts';

/** Options of every subcommand that draws. */
export const pictureOptions = {
  svg: flag({ doc: 'print the picture as SVG' }),
  png: text({ doc: 'write the picture as PNG to this file', value: 'FILE', completes: 'file' }),
};

/** Writes a picture where the options say; false when they name none. */
export async function writePicture(
  svg: () => string,
  options: { svg: boolean; png?: string | undefined },
  io: Io,
): Promise<boolean> {
  if (options.svg && options.png !== undefined)
    throw usageError('--svg and --png exclude each other', 'topo draw');
  if (options.svg) io.raw(svg());
  else if (options.png !== undefined) {
    const bytes = await toPng(svg());
    try {
      writeFileSync(options.png, bytes);
    } catch (error) {
      throw new RdmakitError({
        kind: 'environment',
        what: `cannot write ${options.png}`,
        cause: (error as Error).message,
        remedy: 'give a file in a folder that you may write',
        from: error,
      });
    }
    io.note(`wrote ${options.png}`);
  } else return false;
  return true;
}

export const drawSpec = defineCommand({
  name: 'draw',
  summary: 'draw a topology: SVG, PNG, or in the terminal',
  description: [
    'Draws without a browser and without a server. The same file gives the same bytes on every machine.',
    'In the SVG every node is a group with id node-NAME and every link a path with id link-NAME; their classes are the ' +
      'kind, tier-N and plane-N. The topology itself is inside, so that every subcommand can read the picture as FILE.',
    'Without --svg and --png it prints a compact picture for the terminal.',
  ],
  positionals: [FILE],
  options: {
    from: fromOption,
    ...pictureOptions,
    labels: flag({ doc: 'write capacity, delay and loss on the links, also where there are many' }),
    title: text({ doc: 'title of the picture' }),
  },
  examples: [
    { command: 'rdmakit topo draw t.json --svg > t.svg', does: 'draws an SVG' },
    {
      command: 'rdmakit topo generate fat-tree --k 4 --json | rdmakit topo draw -',
      does: 'shows a fat-tree in the terminal',
    },
    { command: 'rdmakit topo draw t.json --png t.png', does: 'draws a PNG' },
  ],
  async run({ options, args }, io) {
    const topology = await readTopology(args[0] ?? '-', options.from);
    const { labels, title } = options;
    const svg = (): string => drawSvg(topology, { labels: labels || undefined, title });
    if (!(await writePicture(svg, options, io))) io.raw(drawText(topology, io.columns));
  },
});
