/** What a row of the table of programs under socket-run is. */

import type { Bench, ModeName } from './bench.ts';

export interface Row {
  /** Debian packages of the two ends. */
  from: string;
  program: string;
  /** Both ends, to the end; throws with a reason when something is not right. */
  run(bench: Bench): Promise<void>;
  /** Modes that do not apply. */
  not?: readonly ModeName[];
  /** Its connections carry one request: whether one is accelerated before it ends is a matter of microseconds. */
  brief?: true;
  /** Goes into the document. */
  note?: string;
}

/** Throws unless a program's words are right. */
export function mustSay(text: string, wanted: RegExp): void {
  if (!wanted.test(text)) throw new Error(`it did not say ${wanted}\n${text.slice(-1000)}`);
}
