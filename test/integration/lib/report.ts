/** Collects what became of each case and prints it as one table: a row a case, a column a road. */

import { renderTable } from '../../../src/cli/table.ts';

export class Report {
  private readonly cells = new Map<string, Map<string, string>>();
  private readonly columns: readonly string[];
  private readonly title: string;

  constructor(title: string, columns: readonly string[]) {
    this.title = title;
    this.columns = columns;
  }

  /** Runs the case and notes what it returned, or `FAILED` when it throws, which it passes on. */
  async note(row: string, column: string, measure: () => Promise<string>): Promise<void> {
    const cells = this.cells.get(row) ?? new Map<string, string>();
    this.cells.set(row, cells.set(column, 'FAILED'));
    cells.set(column, await measure());
  }

  print(): void {
    const rows = [...this.cells].map(([row, cells]) => [
      row,
      ...this.columns.map((name) => cells.get(name) ?? '-'),
    ]);
    const align: ('left' | 'right')[] = ['left', ...this.columns.map(() => 'right' as const)];
    const table = renderTable(
      { head: [this.title, ...this.columns], rows, align },
      (text) => text,
      Number.POSITIVE_INFINITY,
    );
    process.stdout.write(`\n${table}\n`);
  }
}
