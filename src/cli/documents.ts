/**
 * Documents: what --json and --ndjson print and other commands read. Each has a name and a version that travel in its
 * first field, and one valibot schema that is used on the way out and on the way in.
 */

import * as v from 'valibot';
import { RdmakitError } from '../errors.ts';

export interface DocumentType<T> {
  /** `rdmakit.pingpong/1` */
  readonly id: string;
  readonly body: v.GenericSchema<unknown, T>;
}

/** Names a document type: `defineDocument('pingpong', 1, Report)` is `rdmakit.pingpong/1`. */
export function defineDocument<T>(
  name: string,
  version: number,
  body: v.GenericSchema<unknown, T>,
): DocumentType<T> {
  return { id: `rdmakit.${name}/${version}`, body };
}

function issuesOf(issues: readonly v.BaseIssue<unknown>[]): string {
  return issues
    .slice(0, 3)
    .map((issue) => `${v.getDotPath(issue) ?? '(document)'}: ${issue.message}`)
    .join('; ');
}

/** The document as one line of JSON, validated. A mismatch is a bug of ours, not the user's. */
export function encodeDocument<T>(type: DocumentType<T>, body: T): string {
  const checked = v.safeParse(type.body, body);
  if (!checked.success) {
    throw new RdmakitError({
      kind: 'internal',
      what: `a ${type.id} document does not match its schema`,
      cause: issuesOf(checked.issues),
    });
  }
  return JSON.stringify({ schema: type.id, ...(checked.output as object) });
}

/** Reads one document of the given type; wrong JSON, another type or a wrong shape is the user's error. */
export function decodeDocument<T>(type: DocumentType<T>, text: string): T {
  const refuse = (what: string, cause?: string) =>
    new RdmakitError({
      kind: 'usage',
      what,
      cause,
      remedy: `give a document that begins {"schema":"${type.id}", ...}`,
    });
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw refuse('the input is not JSON', String(error));
  }
  if (typeof value !== 'object' || value === null || !('schema' in value) || value.schema !== type.id) {
    const found = (value as { schema?: unknown } | null)?.schema;
    throw refuse(
      `the input is not a ${type.id} document`,
      `its schema field is ${JSON.stringify(found) ?? 'absent'}`,
    );
  }
  const { schema: _, ...body } = value;
  const checked = v.safeParse(type.body, body);
  if (!checked.success) throw refuse(`the ${type.id} document has the wrong shape`, issuesOf(checked.issues));
  return checked.output;
}
