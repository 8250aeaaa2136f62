/**
 * Finds places in JSON text: the first syntax error, or where a value with a given path begins. JSON.parse of the
 * three runtimes gives different or no positions, and a validator knows paths but no lines.
 */

import { InputError, lineAt } from './input-error.ts';

export type JsonPath = readonly (string | number)[];

/** Deeper than any document of ours; a hostile one must not exhaust the stack. */
const MAX_DEPTH = 100;
const NUMBER = /-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?/y;
// biome-ignore lint/suspicious/noControlCharactersInRegex: JSON strings may not contain them
const STRING = /"(?:[^"\\\u0000-\u001f]|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*"/y;
const SPACE = /[ \t\r\n]*/y;

class Scanner {
  readonly #text: string;
  readonly #wanted: JsonPath | undefined;
  #at = 0;
  /** Offset of the value at the wanted path, or of its nearest ancestor. */
  found = 0;

  constructor(text: string, wanted: JsonPath | undefined) {
    this.#text = text;
    this.#wanted = wanted;
  }

  scan(): void {
    this.#value(0, true);
    this.#space();
    if (this.#at < this.#text.length) this.#fail('text after the end of the document');
  }

  #fail(message: string): never {
    throw new InputError(`not JSON: ${message}`, lineAt(this.#text, this.#at));
  }

  #space(): void {
    SPACE.lastIndex = this.#at;
    SPACE.exec(this.#text);
    this.#at = SPACE.lastIndex;
  }

  #token(pattern: RegExp): string | undefined {
    pattern.lastIndex = this.#at;
    const match = pattern.exec(this.#text);
    if (match) this.#at = pattern.lastIndex;
    return match?.[0];
  }

  /** `depth` keys of the wanted path have been followed when `onPath`. */
  #value(depth: number, onPath: boolean): void {
    this.#space();
    if (depth > MAX_DEPTH) this.#fail('nested too deeply');
    if (onPath) this.found = this.#at;
    const char = this.#text[this.#at];
    if (char === '{') this.#members(depth, onPath);
    else if (char === '[') this.#items(depth, onPath);
    else if (char === '"') {
      if (this.#token(STRING) === undefined) this.#fail('a string is not closed or has a bad escape');
    } else if (this.#token(NUMBER) === undefined) {
      const word = ['true', 'false', 'null'].find((each) => this.#text.startsWith(each, this.#at));
      if (word === undefined)
        this.#fail(char === undefined ? 'the text ends too early' : `'${char}' is not a value`);
      this.#at += word.length;
    }
  }

  #isNext(key: string | number, depth: number, onPath: boolean): boolean {
    return onPath && this.#wanted !== undefined && this.#wanted[depth] === key;
  }

  #members(depth: number, onPath: boolean): void {
    const seen = new Set<string>();
    this.#at += 1;
    this.#space();
    if (this.#text[this.#at] === '}') {
      this.#at += 1;
      return;
    }
    for (;;) {
      this.#space();
      const start = this.#at;
      const token = this.#token(STRING);
      if (token === undefined) this.#fail('a member needs a name in double quotes');
      const key = JSON.parse(token) as string;
      if (seen.has(key)) this.#fail(`the name ${token} stands twice in one object`);
      seen.add(key);
      this.#space();
      if (this.#text[this.#at] !== ':') this.#fail(`':' expected after ${token}`);
      this.#at += 1;
      const next = this.#isNext(key, depth, onPath);
      this.#value(depth + 1, next);
      // An unknown key is wrong as a key: point at its name, which may stand on a line before its value.
      if (next && depth + 1 === this.#wanted?.length) this.found = start;
      if (!this.#more('}')) return;
    }
  }

  #items(depth: number, onPath: boolean): void {
    this.#at += 1;
    this.#space();
    if (this.#text[this.#at] === ']') {
      this.#at += 1;
      return;
    }
    for (let index = 0; ; index++) {
      this.#value(depth + 1, this.#isNext(index, depth, onPath));
      if (!this.#more(']')) return;
    }
  }

  /** Eats `,` (true) or the closing bracket (false). */
  #more(close: string): boolean {
    this.#space();
    const char = this.#text[this.#at];
    if (char !== ',' && char !== close) this.#fail(`',' or '${close}' expected`);
    this.#at += 1;
    return char === ',';
  }
}

/** Line of the value at `path` (or of its nearest ancestor). Throws InputError where the text is not JSON. */
export function lineOfPath(text: string, path: JsonPath): number {
  const scanner = new Scanner(text, path);
  scanner.scan();
  return lineAt(text, scanner.found);
}

/** Throws InputError at the first place where the text is not JSON, also for names that stand twice in one object. */
export function checkJson(text: string): void {
  new Scanner(text, undefined).scan();
}
