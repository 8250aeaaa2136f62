/** `topo overlay`: measured or predicted values painted on the links of a picture. */

import { defineCommand, usageError } from '../../cli/command.ts';
import { decodeDocument } from '../../cli/documents.ts';
import { choice, text } from '../../cli/options.ts';
import { drawSvg } from '../../topo/draw/svg.ts';
import { overlayOfLoad, overlayOfTable, SHOWS } from '../../topo/draw/values.ts';
import { readInput, readTopology } from '../../topo/formats/index.ts';
import { inFile } from '../../topo/model/input-error.ts';
import { LoadDocument } from './balance.ts';
import { pictureOptions, writePicture } from './draw.ts';
import { FILE, fromOption } from './shared.ts';

export const overlaySpec = defineCommand({
  name: 'overlay',
  summary: 'paint measured or predicted values on the links of a picture',
  description: [
    'VALUES is a document of topo balance --json, or a table with a line link,value or from,to,value for each link. Of ' +
      'the two directions of a link the larger value is shown. Links without a value stay grey.',
  ],
  positionals: [FILE, { name: 'VALUES', doc: 'load document or table (- is standard input)' }],
  options: {
    from: fromOption,
    show: choice(SHOWS, { doc: 'what of a load document', default: 'utilisation' }),
    title: text({ doc: 'title of the picture' }),
    ...pictureOptions,
  },
  examples: [
    {
      command: 'rdmakit topo balance t.json --json | rdmakit topo overlay t.json - --svg > load.svg',
      does: 'paints a predicted load',
    },
    { command: 'rdmakit topo overlay t.json measured.csv --png load.png', does: 'paints measured values' },
  ],
  async run({ options, args }, io) {
    const [file = '-', values = '-'] = args;
    if (file === '-' && values === '-')
      throw usageError('FILE and VALUES cannot both be standard input', 'topo overlay');
    const topology = await readTopology(file, options.from);
    const { text: given, source } = readInput(values);
    const overlay = inFile(source, 'a table of values', () =>
      given.trimStart().startsWith('{')
        ? overlayOfLoad(decodeDocument(LoadDocument, given), options.show)
        : overlayOfTable(given, topology),
    );
    const svg = (): string => drawSvg(topology, { overlay, title: options.title });
    if (!(await writePicture(svg, options, io))) throw usageError('name --svg or --png FILE', 'topo overlay');
  },
});
