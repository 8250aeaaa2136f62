/**
 * The error doctor: turns a failed call, a completion status or a refused
 * transition into what happened, the likely cause with the evidence that was read,
 * and the command that fixes it. All knowledge is in the table (doctor-rules.ts);
 * this file only looks it up.
 */

import { constants } from 'node:os';
import { ENUMS } from '../../ffi/structs.generated.ts';
import { type ErrorKind, RdmakitError } from '../errors.ts';
import { type Incident, RULES } from './doctor-rules.ts';
import { Evidence } from './evidence.ts';

export type { Incident } from './doctor-rules.ts';

/** The doctor's answer. */
export interface Diagnosis {
  /** What happened, one sentence without a full stop. */
  readonly what: string;
  /** The likely cause, without the evidence. */
  readonly cause: string;
  /** The facts that were read, one sentence each. */
  readonly evidence: readonly string[];
  /** The command or change that fixes it. */
  readonly remedy: string;
  /** `ENOMEM`, `IBV_WC_RETRY_EXC_ERR`, ... */
  readonly code: string;
  readonly kind: ErrorKind;
}

/** An error of the verbs layer, with its diagnosis. */
export class VerbsError extends RdmakitError {
  readonly diagnosis: Diagnosis;

  constructor(diagnosis: Diagnosis, from?: unknown) {
    const evidence = diagnosis.evidence.length === 0 ? '' : ` (${diagnosis.evidence.join('; ')})`;
    super({
      kind: diagnosis.kind,
      what: diagnosis.what,
      cause: `${diagnosis.cause}${evidence}`,
      remedy: diagnosis.remedy,
      from,
    });
    this.name = 'VerbsError';
    this.diagnosis = diagnosis;
  }

  /** The code of the diagnosis: `ENOMEM`, `IBV_WC_RETRY_EXC_ERR`, `timeout`, ... */
  get code(): string {
    return this.diagnosis.code;
  }
}

const ERRNO_NAMES: ReadonlyMap<number, string> = new Map(
  Object.entries(constants.errno).map(([name, value]): [number, string] => [value, name]),
);

/** Two names share a number on Linux; these are the ones that the table and manual pages use. */
const PREFERRED_NAMES: Readonly<Record<string, string>> = { ENOTSUP: 'EOPNOTSUPP', EWOULDBLOCK: 'EAGAIN' };

/** Symbolic name of an errno; takes 95, and -95 as some calls return it. */
export function errnoName(errno: number): string {
  const name = ERRNO_NAMES.get(Math.abs(errno));
  if (name === undefined) return `errno ${Math.abs(errno)}`;
  return PREFERRED_NAMES[name] ?? name;
}

const WC_NAMES: ReadonlyMap<number, string> = new Map(
  Object.entries(ENUMS.ibv_wc_status).map(([name, value]): [number, string] => [value, name]),
);

/** Symbolic name of a work completion status. */
export function completionStatusName(status: number): string {
  return WC_NAMES.get(status) ?? `IBV_WC status ${status}`;
}

/** Explains an incident by the first rule that applies. */
export function diagnose(incident: Incident, evidence: Evidence = new Evidence()): Diagnosis {
  const rule = RULES.find(
    ({ codes, calls, when }) =>
      codes.includes(incident.code) &&
      (calls === undefined || calls.includes(incident.call)) &&
      (when === undefined || when(evidence, incident)),
  );
  const details = incident.details ?? [];
  // Names of the system say more to whoever knows them; our own codes are for programs.
  const named = /^[A-Z]/.test(incident.code) ? `: ${incident.code}` : '';
  const what = `cannot ${incident.attempt ?? incident.call}${named}`;
  if (rule === undefined) {
    return {
      what,
      cause: `${incident.call} failed with an error that rdmakit has no explanation for`,
      evidence: [...details, ...evidence.sentences(['deviceNodes', 'modules', 'memlock'])],
      remedy: 'run again with RDMAKIT_DEBUG=1 and look at dmesg',
      code: incident.code,
      kind: 'environment',
    };
  }
  return {
    what,
    cause: rule.cause,
    evidence: [...details, ...evidence.sentences(rule.look ?? [])],
    remedy: rule.remedy,
    code: incident.code,
    kind: rule.kind,
  };
}

/** The error for an errno that a verbs call left behind. */
export function callFailure(
  call: string,
  errno: number,
  context: Omit<Incident, 'call' | 'code'> = {},
): VerbsError {
  return failure({ ...context, call, code: errnoName(errno) });
}

/** The error for any incident. */
export function failure(incident: Incident, from?: unknown): VerbsError {
  return new VerbsError(diagnose(incident), from);
}

/** The error for a value that must not reach the library; `expected` says what would be right. */
export function badValue(name: string, value: unknown, expected: string): VerbsError {
  return new VerbsError({
    ...diagnose({ call: 'check', code: 'bad-value' }),
    what: `${name} is ${String(value)}, not ${expected}`,
    remedy: `give ${expected}`,
  });
}

/** Explains a work completion. `vendorError` is shown when it is not 0; `details` are facts the caller knows. */
export function explainCompletion(
  status: number | string,
  vendorError = 0,
  details: readonly string[] = [],
  evidence: Evidence = new Evidence(),
): Diagnosis {
  const code = typeof status === 'number' ? completionStatusName(status) : status;
  const vendor = vendorError === 0 ? [] : [`vendor error 0x${vendorError.toString(16)}`];
  const diagnosis = diagnose({ call: 'completion', code, details: [...details, ...vendor] }, evidence);
  return { ...diagnosis, what: `a work request ended with ${code}` };
}

/** The error for a work completion. */
export function completionFailure(
  status: number | string,
  vendorError = 0,
  details: readonly string[] = [],
): VerbsError {
  return new VerbsError(explainCompletion(status, vendorError, details));
}
