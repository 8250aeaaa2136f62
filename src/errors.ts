/**
 * The error every layer of rdmakit may throw, and the process exit codes.
 * A leaf: it imports nothing, so that ffi/, verbs/ and the domains can use it without pointing an arrow backwards.
 * Rendering for people is done in one place, src/cli/main.ts.
 */

/** Exit codes of every command. A signal adds 128 as usual (Ctrl-C: 130). */
export const ExitCode = {
  /** The command did what it was asked to do. */
  done: 0,
  /** It ran and the answer is bad: a gate failed, data did not match. */
  badAnswer: 1,
  /** The command line is wrong. */
  usage: 2,
  /** The environment lacks something; the message names it and the command that gives it. */
  environment: 3,
  /** The peer or the network failed. */
  peer: 4,
  /** A bug in rdmakit itself (EX_SOFTWARE of sysexits.h). */
  internal: 70,
} as const;
export type ExitCode = (typeof ExitCode)[keyof typeof ExitCode];

/** What an error is about; decides the exit code. */
export type ErrorKind = 'badAnswer' | 'usage' | 'environment' | 'peer' | 'internal';

export interface ErrorParts {
  /** Whose fault it is; decides the exit code. */
  kind: ErrorKind;
  /** What happened, one sentence without a full stop: `cannot open device rxe0`. */
  what: string;
  /** The likely cause, with the evidence that was read: `/dev/infiniband/uverbs0 is mode 0600 and owned by root`. */
  cause?: string | undefined;
  /** The command or change that fixes it: `sudo chmod 666 /dev/infiniband/uverbs0`. */
  remedy?: string | undefined;
  /** The error below this one, if any (shown with RDMAKIT_DEBUG=1). */
  from?: unknown;
}

/** An error with a cause and a remedy. `message` is the `what`. */
export class RdmakitError extends Error {
  readonly kind: ErrorKind;
  readonly likelyCause: string | undefined;
  readonly remedy: string | undefined;

  constructor(parts: ErrorParts) {
    super(parts.what, parts.from === undefined ? undefined : { cause: parts.from });
    this.name = 'RdmakitError';
    this.kind = parts.kind;
    this.likelyCause = parts.cause;
    this.remedy = parts.remedy;
  }

  get exitCode(): ExitCode {
    return ExitCode[this.kind];
  }
}
