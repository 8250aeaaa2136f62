/** Pictures that `topo draw` made carry the topology in a <metadata> element; this takes it out again. */

import { InputError, lineAt } from '../model/input-error.ts';
import { readTopologyJson } from '../model/read-json.ts';
import type { Topology } from '../model/schema.ts';

const OPEN = '<metadata id="topology"><![CDATA[';
const CLOSE = ']]></metadata>';

/** The element that carries the topology. */
export function embed(json: string): string {
  // `]]>` would end the section; inside a JSON string `>` may be written as an escape.
  return `${OPEN}${json.replaceAll(']]>', ']]\\u003e')}${CLOSE}`;
}

/** Takes the topology out of a picture. Throws InputError. */
export function readSvg(text: string): Topology {
  const start = text.indexOf(OPEN);
  const end = text.indexOf(CLOSE, start);
  if (start === -1 || end === -1)
    throw new InputError('the picture carries no topology; only pictures of topo draw do', 1);
  try {
    return readTopologyJson(text.slice(start + OPEN.length, end));
  } catch (error) {
    if (!(error instanceof InputError) || error.line === undefined) throw error;
    // Lines of the document inside are not those of the file.
    throw new InputError(error.message, error.line + lineAt(text, start) - 1);
  }
}
