/**
 * Makes a topology step by step, as generators and importers do: checks every part as it comes, so that the mistake is
 * reported with the line it was read from, and numbers ports and parallel links.
 */

import * as v from 'valibot';
import { InputError } from './input-error.ts';
import { MAX_LINKS, MAX_NODES } from './limits.ts';
import { type Demand, Link, Node, type Topology } from './schema.ts';

/** A link whose id and ports may be left to the builder. */
export type NewLink = Omit<Link, 'id'> & { id?: string | undefined };

/** Properties whose value is undefined are dropped: the schema knows only absent ones. */
export function defined<T extends object>(value: T): { [K in keyof T]: Exclude<T[K], undefined> } {
  return Object.fromEntries(Object.entries(value).filter(([, each]) => each !== undefined)) as never;
}

function parsed<T>(
  schema: v.GenericSchema<unknown, T>,
  value: object,
  what: string,
  line: number | undefined,
): T {
  const result = v.safeParse(schema, value);
  if (result.success) return result.output;
  const [issue] = result.issues;
  const key = v.getDotPath(issue);
  const got = JSON.stringify(issue.input) ?? String(issue.input);
  throw new InputError(`${what}: ${key ?? 'value'} ${got.slice(0, 60)}: ${issue.message}`, line);
}

export class TopologyBuilder {
  readonly #nodes = new Map<string, Node>();
  readonly #links = new Map<string, Link>();
  readonly #demands: Demand[] = [];
  readonly #parallel = new Map<string, number>();
  readonly #ports = new Map<string, Set<string>>();
  readonly #numberPorts: boolean;
  readonly #nextPort = new Map<string, number>();

  /** With `numberPorts` links without ports get p1, p2, ... at each end. */
  constructor(options: { numberPorts?: boolean } = {}) {
    this.#numberPorts = options.numberPorts ?? false;
  }

  has(id: string): boolean {
    return this.#nodes.has(id);
  }

  get nodeCount(): number {
    return this.#nodes.size;
  }

  get linkCount(): number {
    return this.#links.size;
  }

  node(node: Node, line?: number): Node {
    if (this.#nodes.has(node.id)) throw new InputError(`a second node is named '${node.id}'`, line);
    if (this.#nodes.size >= MAX_NODES) throw new InputError(`more than ${MAX_NODES} nodes`, line);
    const checked = parsed(Node, defined(node), `node '${String(node.id).slice(0, 60)}'`, line);
    this.#nodes.set(checked.id, checked);
    return checked;
  }

  /** Adds a link; without an id it is named `a--b`, its parallel ones `a--b#2`, ... */
  link(given: NewLink, line?: number): Link {
    if (this.#links.size >= MAX_LINKS) throw new InputError(`more than ${MAX_LINKS} links`, line);
    const id = given.id ?? this.#name(given.a, given.b);
    if (this.#links.has(id)) throw new InputError(`a second link is named '${id}'`, line);
    for (const end of [given.a, given.b]) {
      if (!this.#nodes.has(end))
        throw new InputError(`link '${id}' ends at '${end}', which is no node`, line);
    }
    if (given.a === given.b) throw new InputError(`link '${id}' joins '${given.a}' to itself`, line);
    const a_port = this.#port(given.a, given.a_port, line);
    const b_port = this.#port(given.b, given.b_port, line);
    const { id: _, a, b, ...rest } = given;
    const link = parsed(
      Link,
      defined({ id, a, b, ...rest, a_port, b_port }),
      `link '${id.slice(0, 60)}'`,
      line,
    );
    this.#links.set(id, link);
    return link;
  }

  demand(demand: Demand, line?: number): void {
    for (const end of [demand.from, demand.to]) {
      if (!this.#nodes.has(end)) throw new InputError(`a demand names '${end}', which is no node`, line);
    }
    if (!(demand.rate_bps > 0)) throw new InputError('a demand needs a rate above 0', line);
    this.#demands.push(demand);
  }

  build(about: { name?: string | undefined; made_by?: string | undefined } = {}): Topology {
    const demands = this.#demands.length > 0 ? { demands: this.#demands } : {};
    return {
      ...defined(about),
      nodes: [...this.#nodes.values()],
      links: [...this.#links.values()],
      ...demands,
    };
  }

  #name(a: string, b: string): string {
    // Names are counted, not searched: a thousand parallel links must not cost a million look-ups.
    const base = `${a}--${b}`;
    for (;;) {
      const nth = (this.#parallel.get(base) ?? 0) + 1;
      this.#parallel.set(base, nth);
      const id = nth === 1 ? base : `${base}#${nth}`;
      if (!this.#links.has(id)) return id;
    }
  }

  #port(node: string, given: string | undefined, line: number | undefined): string | undefined {
    if (given === undefined && !this.#numberPorts) return undefined;
    const used = this.#ports.get(node) ?? new Set();
    this.#ports.set(node, used);
    let port = given;
    while (port === undefined || (given === undefined && used.has(port))) {
      const nth = (this.#nextPort.get(node) ?? 0) + 1;
      this.#nextPort.set(node, nth);
      port = `p${nth}`;
    }
    if (used.has(port)) throw new InputError(`port '${port}' of '${node}' has two links`, line);
    used.add(port);
    return port;
  }
}
