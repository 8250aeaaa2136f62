/**
 * Writes completions/ and man/ from the command table and schema/ from the schemas of documents; with --check it writes nothing and fails when a file is stale,
 * missing or left over.
 */

import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { toJsonSchema } from '@valibot/to-json-schema';
import { bashCompletion } from '../src/cli/generate/bash.ts';
import { fishCompletion } from '../src/cli/generate/fish.ts';
import { manPages } from '../src/cli/generate/man.ts';
import { loadModel } from '../src/cli/generate/model.ts';
import { zshCompletion } from '../src/cli/generate/zsh.ts';
import { commands } from '../src/cli.ts';
import { TOPOLOGY_ID, Topology } from '../src/topo/model/schema.ts';

process.chdir(fileURLToPath(new URL('..', import.meta.url)));
const check = process.argv.includes('--check');

/** The JSON schema of a document, for editors and other programs. */
function jsonSchema(id: string, body: Parameters<typeof toJsonSchema>[0]): string {
  // What JSON schema cannot say (a custom check) is left out; reading is stricter than the schema.
  const { properties, required, ...rest } = toJsonSchema(body, { errorMode: 'ignore', typeMode: 'input' });
  const schema = {
    ...rest,
    title: id,
    properties: { schema: { const: id }, ...properties },
    required: ['schema', ...(required ?? [])],
  };
  return `${JSON.stringify(schema, null, 2)}\n`;
}

const tops = await loadModel(commands);
const files = new Map([
  ['completions/rdmakit.bash', bashCompletion(tops)],
  ['completions/_rdmakit', zshCompletion(tops)],
  ['completions/rdmakit.fish', fishCompletion(tops)],
  ['schema/topo-1.json', jsonSchema(TOPOLOGY_ID, Topology)],
  ...[...manPages(tops)].map(([name, text]) => [`man/${name}`, text] as const),
]);

const stale: string[] = [];
for (const folder of ['completions', 'man', 'schema']) {
  if (!check) mkdirSync(folder, { recursive: true });
  for (const name of existsSync(folder) ? readdirSync(folder) : []) {
    if (files.has(`${folder}/${name}`)) continue;
    stale.push(`${folder}/${name} belongs to no command`);
    if (!check) rmSync(`${folder}/${name}`);
  }
}
for (const [path, text] of files) {
  if (existsSync(path) && readFileSync(path, 'utf8') === text) continue;
  stale.push(`${path} is stale`);
  if (!check) writeFileSync(path, text);
}
if (check && stale.length > 0) {
  console.error(`${stale.join('\n')}\nrun: npm run gen`);
  process.exitCode = 1;
}
