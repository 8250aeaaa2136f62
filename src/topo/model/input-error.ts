/** The error of every importer: which file, which line, what is wrong there. */

import { RdmakitError } from '../../errors.ts';

/** A mistake in an input file. Importers throw it without knowing the file's name; the reader adds that. */
export class InputError extends Error {
  /** 1-based, undefined when the mistake has no place. */
  readonly line: number | undefined;

  constructor(message: string, line?: number) {
    super(message);
    this.name = 'InputError';
    this.line = line;
  }
}

/** Runs an importer on the contents of `source`; its InputErrors become errors for people. */
export function inFile<T>(source: string, format: string, work: () => T): T {
  try {
    return work();
  } catch (error) {
    if (!(error instanceof InputError)) throw error;
    const place = error.line === undefined ? source : `${source}:${error.line}`;
    throw new RdmakitError({
      kind: 'usage',
      what: `${place}: ${error.message}`,
      remedy: `correct the file, or name its format with --from if it is not ${format}`,
      from: error,
    });
  }
}

/** 1-based line of an offset in a text. */
export function lineAt(text: string, offset: number): number {
  let line = 1;
  for (let at = text.indexOf('\n'); at !== -1 && at < offset; at = text.indexOf('\n', at + 1)) line += 1;
  return line;
}
