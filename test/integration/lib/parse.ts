/**
 * Reads the results that rdma-core's pingpongs and perftest print. All of these throw when the text is not what the program
 * prints after a good run, so that a program which measured nothing does not pass.
 */

/** What `ibv_*_pingpong` prints: "8192000 bytes in 0.01 seconds = ...", "1000 iters in 0.01 seconds = 9.21 usec/iter". */
export interface PingpongResult {
  bytes: number;
  iterations: number;
  usecPerIteration: number;
}

export function parsePingpong(text: string): PingpongResult {
  const bytes = text.match(/^(\d+) bytes in [\d.]+ seconds = [\d.]+ Mbit\/sec$/m)?.[1];
  const iterations = text.match(/^(\d+) iters in [\d.]+ seconds = ([\d.]+) usec\/iter$/m);
  if (!bytes || !iterations) throw new Error(`no result lines in:\n${text}`);
  if (/invalid data/.test(text)) throw new Error(`the data check failed:\n${text}`);
  return { bytes: Number(bytes), iterations: Number(iterations[1]), usecPerIteration: Number(iterations[2]) };
}

/** One line of perftest's table: its first two columns and then as many numbers as the test has. */
export interface PerftestRow {
  bytes: number;
  iterations: number;
  /** bw tests: [peak, average MB/s, M messages/s]; lat tests: [min, max, typical, average, stdev, p99, p99.9 us]. */
  values: number[];
}

/**
 * The standard deviation may be no number: perftest takes the root of a difference of large sums, which rounding can make negative when one
 * message of a busy machine took very long. Nothing is read from it. `emulated`: the processor's clock was, and where perftest measured it
 * as standing still all times are infinite: values are not looked at.
 */
export function parsePerftest(text: string, emulated = false): PerftestRow[] {
  const stdev = /^ *#bytes .*t_stdev/m.test(text) ? 4 : -1;
  const rows = text
    .split('\n')
    .map((line) => line.trim())
    .filter((line) => /^\d+\s/.test(line))
    .map((line) => {
      const [bytes = Number.NaN, iterations = Number.NaN, ...values] = line.split(/\s+/).map(Number);
      const sure = values.filter((_, i) => !emulated && i !== stdev);
      if (![bytes, iterations, ...sure].every((value) => value >= 0))
        throw new Error(`a row with something else than numbers, '${line}', in:\n${text}`);
      return { bytes, iterations, values };
    });
  if (rows.length === 0) throw new Error(`no table in:\n${text}`);
  return rows;
}
