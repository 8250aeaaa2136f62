/**
 * Ctrl-C and closed pipes as one AbortSignal. Work that can stop early takes the signal, returns what it has so far, and
 * the command prints it; nobody needs to know which of the reasons it was. Handlers are installed on first use only, so
 * that a command which never asks keeps the default behaviour of dying at once.
 */

const SIGNAL_NUMBERS = { SIGINT: 2, SIGTERM: 15, SIGHUP: 1 } as const;
export type StopSignal = keyof typeof SIGNAL_NUMBERS;

export class Interrupt {
  #controller: AbortController | undefined;
  #received: StopSignal | undefined;

  /** Aborts at the first SIGINT, SIGTERM or SIGHUP, and when the reader of stdout has gone. A second one kills at once. */
  get signal(): AbortSignal {
    if (!this.#controller) {
      this.#controller = new AbortController();
      for (const name of Object.keys(SIGNAL_NUMBERS) as StopSignal[]) process.on(name, this.#onSignal);
    }
    return this.#controller.signal;
  }

  /** Has anybody asked for the signal? */
  get inUse(): boolean {
    return this.#controller !== undefined;
  }

  /** 128 + the signal's number once one was received, as a shell reports it. */
  get exitCode(): number | undefined {
    return this.#received && 128 + SIGNAL_NUMBERS[this.#received];
  }

  /** Stops the work for another reason than a signal (the output pipe was closed). */
  abort(): void {
    this.#controller?.abort();
  }

  /** Gives the signals back to the runtime; a runtime may otherwise stay alive because of the handlers. */
  dispose(): void {
    for (const name of Object.keys(SIGNAL_NUMBERS) as StopSignal[]) process.off(name, this.#onSignal);
  }

  readonly #onSignal = (name: NodeJS.Signals): void => {
    if (this.#received) process.exit(128 + SIGNAL_NUMBERS[this.#received]);
    this.#received = name as StopSignal;
    this.#controller?.abort();
  };
}
