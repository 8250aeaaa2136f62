/**
 * XML as a tree, for the formats that are XML. Strict and bounded: no document type with declarations (so no entities of
 * its own to expand), limited depth, every mistake with its line.
 */

import { SaxesParser } from 'saxes';
import { InputError } from '../model/input-error.ts';

export interface Element {
  name: string;
  attributes: ReadonlyMap<string, string>;
  children: Element[];
  /** The text directly inside, trimmed. */
  text: string;
  line: number;
}

const MAX_DEPTH = 64;
/** More than a file of the largest size has with anything in them. */
const MAX_ELEMENTS = 2_000_000;

/** The name without its namespace prefix. */
function local(name: string): string {
  return name.slice(name.indexOf(':') + 1);
}

/** The root element. Throws InputError. */
export function parseXml(text: string): Element {
  const parser = new SaxesParser();
  const stack: (Element & { attributes: Map<string, string> })[] = [];
  let root: Element | undefined;
  let count = 0;
  parser.on('error', (error) => {
    throw new InputError(`not well-formed XML: ${error.message.replace(/^\d+:\d+: /, '')}`, parser.line);
  });
  parser.on('doctype', (declaration) => {
    if (!/[[\]]|ENTITY/.test(declaration)) return;
    throw new InputError(
      'a document type with declarations is refused (entities of the file are never expanded)',
      parser.line,
    );
  });
  parser.on('opentag', ({ name, attributes }) => {
    count += 1;
    if (stack.length >= MAX_DEPTH)
      throw new InputError(`nested deeper than ${MAX_DEPTH} elements`, parser.line);
    if (count > MAX_ELEMENTS) throw new InputError(`more than ${MAX_ELEMENTS} elements`, parser.line);
    const pairs = Object.entries(attributes).map(([key, value]) => [key, String(value)] as const);
    const element = {
      name: local(name),
      attributes: new Map(pairs),
      children: [],
      text: '',
      line: parser.line,
    };
    const parent = stack.at(-1);
    if (parent) parent.children.push(element);
    else root = element;
    stack.push(element);
  });
  const addText = (piece: string): void => {
    const top = stack.at(-1);
    if (top) top.text += piece;
  };
  parser.on('text', addText);
  parser.on('cdata', addText);
  parser.on('closetag', () => {
    const element = stack.pop();
    if (element) element.text = element.text.trim();
  });
  parser.write(text).close();
  if (!root) throw new InputError('no XML element', 1);
  return root;
}

/** All descendants of that name, in document order. */
export function* descendants(element: Element, name: string): Generator<Element> {
  for (const child of element.children) {
    if (child.name === name) yield child;
    yield* descendants(child, name);
  }
}

/** The first child of that name. */
export function child(element: Element, name: string): Element | undefined {
  return element.children.find((each) => each.name === name);
}

/** An attribute that must be there. */
export function required(element: Element, name: string): string {
  const value = element.attributes.get(name);
  if (value === undefined) throw new InputError(`<${element.name}> lacks ${name}="..."`, element.line);
  return value;
}
