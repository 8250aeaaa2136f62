/** A progress bar on stderr, silent when stderr is not a terminal. */

import cliProgress from 'cli-progress';

export interface Progress {
  update(done: number, note?: string): void;
  stop(): void;
}

export const SILENT: Progress = { update() {}, stop() {} };

/** Starts a bar of `total` steps. Call stop() before anything else is printed. */
export function startProgress(stream: NodeJS.WriteStream, total: number, label: string): Progress {
  if (!stream.isTTY) return SILENT;
  const bar = new cliProgress.SingleBar({
    stream,
    format: `${label} {bar} {value}/{total} {note}`,
    barsize: 24,
    hideCursor: false,
    clearOnComplete: true,
    linewrap: false,
  });
  bar.start(total, 0, { note: '' });
  return {
    update: (done, note = '') => bar.update(done, { note }),
    stop: () => bar.stop(),
  };
}
