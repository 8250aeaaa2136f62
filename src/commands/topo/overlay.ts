/** `topo overlay`: measured or predicted values painted on the links of a picture. */

import { defineCommand, usageError } from '../../cli/command.ts';
import { decodeDocument } from '../../cli/documents.ts';
import { choice, flag, text } from '../../cli/options.ts';
import type { Overlay } from '../../topo/draw/overlay.ts';
import { overlayOfPaths, overlayOfRecords, SHOWS, type Shows } from '../../topo/draw/records.ts';
import { drawSvg } from '../../topo/draw/svg.ts';
import { overlayOfLoad, overlayOfTable } from '../../topo/draw/values.ts';
import { readInput, readTopology } from '../../topo/formats/index.ts';
import { inFile } from '../../topo/model/input-error.ts';
import type { Topology } from '../../topo/model/schema.ts';
import { LoadDocument } from './balance.ts';
import { pictureOptions, writePicture } from './draw.ts';
import { PathsDocument } from './paths.ts';
import { FILE, fromOption } from './shared.ts';

/** Our predictions have more to say than their numbers; everything else is records. */
function overlayOfDocument(given: string, topology: Topology, show?: Shows, field?: string): Overlay {
  const start = given.slice(0, 200);
  if (field === undefined && start.includes(`"${LoadDocument.id}"`) && show !== 'latency' && show !== 'loss')
    return overlayOfLoad(decodeDocument(LoadDocument, given), show ?? 'utilisation');
  if (field === undefined && start.includes(`"${PathsDocument.id}"`))
    return overlayOfPaths(decodeDocument(PathsDocument, given).paths, topology);
  return overlayOfRecords(given, topology, show, field);
}

export const overlaySpec = defineCommand({
  name: 'overlay',
  summary: 'paint measured or predicted values on the links of a picture',
  description: [
    'VALUES is what other commands print with --json or --ndjson: topo balance (load), topo paths (flows), topo probe, ' +
      'pingpong and any document whose objects name a link, or two ends (from and to, src and dst, client and server) by node ' +
      'or address. Documents may follow one another, one a line. Or it is a table with a line link,value or from,to,value.',
    'A value between ends without a link of their own counts for each link of the way, if there is only one way. Of several the ' +
      'largest rate and the smallest latency or loss holds; of the two directions of a link the larger is shown. Links without ' +
      'a value stay grey. The legend says how uneven the values are: max/mean and the fairness index of Jain.',
  ],
  positionals: [FILE, { name: 'VALUES', doc: 'documents or table (- is standard input)' }],
  options: {
    from: fromOption,
    show: choice(SHOWS, { doc: 'what of the documents; the first of these that is there when absent' }),
    field: text({ doc: 'number of the documents to show, such as latency_p99_ns', value: 'NAME' }),
    labels: flag({ doc: 'write the values on the links, also where there are many' }),
    title: text({ doc: 'title of the picture' }),
    ...pictureOptions,
  },
  examples: [
    {
      command: 'rdmakit topo balance t.json --json | rdmakit topo overlay t.json - --svg > load.svg',
      does: 'paints a predicted load',
    },
    {
      command:
        'rdmakit topo probe --name lab1 --json | rdmakit topo overlay t.json - --show latency --png rtt.png',
      does: 'paints measured round-trip times',
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
      /^\s*[{[]/.test(given)
        ? overlayOfDocument(given, topology, options.show, options.field)
        : overlayOfTable(given, topology),
    );
    const { labels, title } = options;
    const svg = (): string => drawSvg(topology, { overlay, labels: labels || undefined, title });
    if (!(await writePicture(svg, options, io))) throw usageError('name --svg or --png FILE', 'topo overlay');
  },
});
