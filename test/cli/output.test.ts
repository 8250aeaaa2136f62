import { describe, expect, test } from 'bun:test';
import { decodeDocument, encodeDocument } from '../../src/cli/documents.ts';
import { renderTable } from '../../src/cli/table.ts';
import { colorLevelOf, columnsOf } from '../../src/cli/terminal.ts';
import { RdmakitError } from '../../src/errors.ts';
import { Capture, EchoDocument, run } from './fixture.ts';

const ESCAPE = '\x1b[';

describe('formats', () => {
  test('table: text on stdout, remarks on stderr', async () => {
    const { code, out, err } = await run(['echo', 'a']);
    expect(code).toBe(0);
    expect(out.split('\n').slice(1)).toEqual(['size  word', '  64  a', '']);
    expect(err).toBe('a note\n');
  });

  test('--json: one document that names its schema', async () => {
    const { out } = await run(['echo', '--json', '-i', '1']);
    expect(JSON.parse(out)).toEqual({
      schema: 'rdmakit.echo/1',
      size_bytes: 64,
      interval_ns: 1e9,
      words: [],
    });
    expect(Object.keys(JSON.parse(out))[0]).toBe('schema');
  });

  test('--ndjson: a document a line, events included', async () => {
    const { out } = await run(['echo', '--ndjson']);
    const lines = out.trimEnd().split('\n');
    expect(lines.map((line) => JSON.parse(line).size_bytes)).toEqual([1, 64]);
  });

  test('a document that breaks its schema is never printed', async () => {
    const { code, out, err } = await run(['echo', '--json', '--schema']);
    expect({ code, out }).toEqual({ code: 70, out: '' });
    expect(err).toMatch(
      /internal error: a rdmakit.echo\/1 document does not match its schema\n\s+cause: size_bytes/,
    );
  });
});

describe('documents', () => {
  const body = { size_bytes: 1, words: ['x'] };

  test('read back what was written', () => {
    expect(decodeDocument(EchoDocument, encodeDocument(EchoDocument, body))).toEqual(body);
  });

  test.each([
    ['not json', /not JSON/],
    ['null', /not a rdmakit.echo\/1/],
    ['[]', /not a rdmakit.echo\/1/],
    ['{}', /its schema field|not a rdmakit.echo\/1/],
    ['{"schema":"rdmakit.echo/2","size_bytes":1,"words":[]}', /not a rdmakit.echo\/1/],
    ['{"schema":"rdmakit.echo/1","size_bytes":"1","words":[]}', /wrong shape/],
    ['{"schema":"rdmakit.echo/1","size_bytes":1,"words":[],"more":1}', /wrong shape/],
  ])('%s is refused', (text, reason) => {
    expect(() => decodeDocument(EchoDocument, text)).toThrow(reason);
    expect(() => decodeDocument(EchoDocument, text)).toThrow(RdmakitError);
  });
});

describe('errors', () => {
  test.each([
    ['badAnswer', 1],
    ['usage', 2],
    ['environment', 3],
    ['peer', 4],
  ])('%s exits with %d and names cause and remedy', async (kind, code) => {
    const outcome = await run(['echo', '--fail', kind]);
    expect(outcome).toEqual({
      code,
      out: '',
      err: 'rdmakit echo: it failed\n  cause: a test\n  try:   rdmakit echo\n',
    });
  });

  test('a bug says that it is one, with the stack on demand only', async () => {
    const quiet = await run(['echo', '--fail', 'bug']);
    expect(quiet.code).toBe(70);
    expect(quiet.err).toMatch(/^rdmakit echo: internal error: boom\n.*this is a bug/);
    expect(quiet.err).not.toContain('fixture.ts');
    const loud = await run(['echo', '--fail', 'bug'], { RDMAKIT_DEBUG: '1' });
    expect(loud.err).toContain('fixture.ts');
  });
});

describe('terminal', () => {
  test('colours: only on terminals, NO_COLOR and FORCE_COLOR obeyed', () => {
    const tty = { isTTY: true };
    expect(colorLevelOf(tty, {})).toBe(1);
    expect(colorLevelOf(tty, { TERM: 'xterm-256color' })).toBe(2);
    expect(colorLevelOf(tty, { COLORTERM: 'truecolor' })).toBe(3);
    expect(colorLevelOf(tty, { TERM: 'dumb' })).toBe(0);
    expect(colorLevelOf(tty, { NO_COLOR: '1' })).toBe(0);
    expect(colorLevelOf(tty, { NO_COLOR: '' })).toBe(1);
    expect(colorLevelOf({}, {})).toBe(0);
    expect(colorLevelOf({}, { FORCE_COLOR: '1' })).toBe(1);
    expect(colorLevelOf({}, { FORCE_COLOR: '1', NO_COLOR: '1' })).toBe(1);
    expect(colorLevelOf(tty, { FORCE_COLOR: '0' })).toBe(0);
  });

  test('output follows them', async () => {
    expect((await run(['echo'])).out).not.toContain(ESCAPE);
    expect((await run(['echo'], { FORCE_COLOR: '1' })).out).toContain(ESCAPE);
    expect((await run(['echo'], {}, new Capture(true, 80))).out).toContain(ESCAPE);
    expect((await run(['echo'], { NO_COLOR: '1' }, new Capture(true, 80))).out).not.toContain(ESCAPE);
    expect((await run(['help'], { FORCE_COLOR: '1' })).out).toContain(ESCAPE);
  });

  test('width: absent, zero and tiny terminals', () => {
    expect(columnsOf({}, {})).toBe(80);
    expect(columnsOf({ columns: 0 }, {})).toBe(80);
    expect(columnsOf({ columns: 0 }, { COLUMNS: '120' })).toBe(120);
    expect(columnsOf({ columns: 0 }, { COLUMNS: 'wide' })).toBe(80);
    expect(columnsOf({ columns: 3 }, {})).toBe(30);
    expect(columnsOf({ columns: 200 }, {})).toBe(200);
  });

  test('help fits the terminal', async () => {
    for (const columns of [30, 40, 60, 80, 132]) {
      const { out } = await run(['help', 'echo'], {}, new Capture(false, columns));
      const prose = out.slice(out.indexOf('\n\n'), out.indexOf('examples:'));
      for (const line of prose.split('\n')) {
        // terms such as `--fail badAnswer|...` cannot be broken
        if (!/^ {2}-/.test(line)) expect(line.length).toBeLessThanOrEqual(columns);
      }
    }
  });
});

describe('tables', () => {
  const spec = {
    head: ['a', 'bb'],
    rows: [
      ['1', ''],
      ['22', '3'],
    ],
    align: ['right', 'left'] as ('left' | 'right')[],
  };

  test('have no borders and no trailing blanks', () => {
    expect(renderTable(spec, (text) => text, 80)).toBe(' a  bb\n 1\n22  3\n');
  });

  test('become blocks when the terminal is too narrow', () => {
    expect(renderTable(spec, (text) => text, 5)).toBe('a   1\n\na   22\nbb  3\n');
    expect(renderTable(spec, (text) => text, 6)).toBe(' a  bb\n 1\n22  3\n');
  });

  test('are measured without their colours', () => {
    expect(renderTable(spec, (text) => `\x1b[1m${text}\x1b[22m`, 6)).toContain('22  3');
  });

  test('stay tables in a pipe', async () => {
    const words = ['echo', 'x'.repeat(50)];
    expect((await run(words, {}, new Capture(false, 40))).out).toContain(`  64  ${words[1]}\n`);
    expect((await run(words, { NO_COLOR: '1' }, new Capture(true, 40))).out).toContain(`word  ${words[1]}\n`);
  });
});
