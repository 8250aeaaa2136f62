/**
 * Reads C types out of the debug information of an object file.
 *
 * Layouts are asked of the compiler that builds our libraries instead of being
 * written down by hand: a hand-copied offset that is wrong corrupts memory. The
 * input is the text of `readelf --debug-dump=info --wide`, which comes with
 * every gcc, so no DWARF library is needed.
 */

/** One debugging information entry: its tag, attributes and children. */
interface Die {
  readonly tag: string;
  readonly attributes: Map<string, string>;
  readonly children: Die[];
}

/** A member of a struct or union; `type` is a scalar name or the name of another layout. */
export interface Member {
  readonly name: string;
  readonly offset: number;
  readonly type: string;
  /** Elements of an array, 1 for a plain member. */
  readonly count: number;
}

/** Layout of one struct or union as the compiler sees it. */
export interface Layout {
  readonly name: string;
  readonly union: boolean;
  readonly size: number;
  readonly members: Member[];
}

const DIE_LINE = /^ <([0-9a-f]+)><([0-9a-f]+)>: Abbrev Number: \d+ \(DW_TAG_(\w+)\)/;
const ATTRIBUTE_LINE = /^ {4}<[0-9a-f]+> +DW_AT_(\w+) *: \((\w+)\) ?(.*)$/;

/** Typedefs whose byte order or width says more than the base type under them. */
const MEANINGFUL_TYPEDEFS = new Set(['__be16', '__be32', '__be64']);

/** Typedefs and structs whose inside is nobody's business: they become a run of 64-bit words. */
const OPAQUE_WORDS = new Set(['pthread_mutex_t', 'pthread_cond_t', 'ibv_context_ops']);

/** The types of one object file, looked up by name. */
export class DebugTypes {
  readonly #dies = new Map<string, Die>();
  readonly #named = new Map<string, Die>();
  readonly #layouts = new Map<string, Layout>();

  /** Parses readelf's text; throws when it holds no debug information. */
  constructor(readelfText: string) {
    const stack: { depth: number; die: Die }[] = [];
    for (const line of readelfText.split('\n')) {
      const start = DIE_LINE.exec(line);
      if (start !== null) {
        const depth = Number.parseInt(start[1] ?? '0', 16);
        const die: Die = { tag: start[3] ?? '', attributes: new Map(), children: [] };
        while (stack.length > 0 && (stack.at(-1)?.depth ?? 0) >= depth) stack.pop();
        stack.at(-1)?.die.children.push(die);
        stack.push({ depth, die });
        this.#dies.set(start[2] ?? '', die);
        continue;
      }
      const attribute = ATTRIBUTE_LINE.exec(line);
      if (attribute !== null) {
        const [, name = '', form = '', raw = ''] = attribute;
        stack.at(-1)?.die.attributes.set(name, cleanValue(form, raw));
      }
    }
    if (this.#dies.size === 0) throw new Error('the object file holds no debug information');
    for (const die of this.#dies.values()) {
      const name = die.attributes.get('name');
      const isDefinition = !die.attributes.has('declaration');
      if (name !== undefined && isDefinition) this.#named.set(`${die.tag} ${name}`, die);
    }
  }

  /** Names of all enums, structs or unions (by DWARF tag) that match a pattern. */
  names(tag: 'enumeration_type' | 'structure_type' | 'union_type', pattern: RegExp): string[] {
    const prefix = `${tag} `;
    return [...this.#named.keys()]
      .filter((key) => key.startsWith(prefix) && pattern.test(key.slice(prefix.length)))
      .map((key) => key.slice(prefix.length));
  }

  /** Enumerators of a C enum in order of declaration. */
  enumerators(name: string): [string, bigint][] {
    const die = this.#named.get(`enumeration_type ${name}`);
    if (die === undefined) throw new Error(`enum ${name} is not in the headers`);
    return die.children
      .filter((child) => child.tag === 'enumerator')
      .map((child) => [
        child.attributes.get('name') ?? '',
        BigInt(child.attributes.get('const_value') ?? '0'),
      ]);
  }

  /** Adds a struct or union, and all that it contains, to {@link layouts}. */
  addLayout(name: string): void {
    const die = this.#named.get(`structure_type ${name}`) ?? this.#named.get(`union_type ${name}`);
    if (die === undefined) throw new Error(`struct ${name} is not in the headers`);
    this.#layout(die, name);
  }

  /** Every layout added so far; nested ones come before those that use them. */
  get layouts(): Layout[] {
    return [...this.#layouts.values()];
  }

  #layout(die: Die, name: string): string {
    if (this.#layouts.has(name)) return name;
    const members: Member[] = [];
    for (const child of die.children) {
      if (child.tag !== 'member') continue;
      if (child.attributes.has('bit_size'))
        throw new Error(`struct ${name} has bit fields, which are not supported`);
      const memberName = child.attributes.get('name');
      const offset = Number(child.attributes.get('data_member_location') ?? '0');
      const { type, count } = this.#resolve(child, `${name}.${memberName ?? `anonymous_${offset}`}`);
      members.push({ name: memberName ?? `anonymous_${offset}`, offset, type, count });
    }
    this.#layouts.set(name, {
      name,
      union: die.tag === 'union_type',
      size: Number(die.attributes.get('byte_size') ?? '0'),
      members,
    });
    return name;
  }

  #resolve(die: Die, path: string): { type: string; count: number } {
    const target = this.#target(die);
    if (target === undefined) throw new Error(`${path} has no type`);
    switch (target.tag) {
      case 'typedef': {
        const name = target.attributes.get('name') ?? '';
        if (OPAQUE_WORDS.has(name)) return this.#words(target);
        if (MEANINGFUL_TYPEDEFS.has(name)) return { type: name.slice(2), count: 1 };
        return this.#resolve(target, path);
      }
      case 'const_type':
      case 'volatile_type':
        return this.#resolve(target, path);
      case 'pointer_type':
        return { type: 'ptr', count: 1 };
      case 'enumeration_type':
        return { type: scalarName(Number(target.attributes.get('byte_size')), false), count: 1 };
      case 'base_type': {
        const encoding = target.attributes.get('encoding') ?? '';
        return {
          type: scalarName(Number(target.attributes.get('byte_size')), !/unsigned|boolean/.test(encoding)),
          count: 1,
        };
      }
      case 'array_type': {
        const element = this.#resolve(target, path);
        const counts = target.children
          .filter((child) => child.tag === 'subrange_type')
          .map((child) => Number(child.attributes.get('upper_bound') ?? '-1') + 1);
        return { type: element.type, count: counts.reduce((product, n) => product * n, element.count) };
      }
      case 'structure_type':
      case 'union_type':
        if (OPAQUE_WORDS.has(target.attributes.get('name') ?? '')) return this.#words(target);
        return { type: this.#layout(target, target.attributes.get('name') ?? path), count: 1 };
      default:
        throw new Error(`${path} has the unsupported type ${target.tag}`);
    }
  }

  #words(die: Die): { type: string; count: number } {
    let inner: Die | undefined = die;
    while (inner !== undefined && !inner.attributes.has('byte_size')) inner = this.#target(inner);
    return { type: 'u64', count: Number(inner?.attributes.get('byte_size') ?? '0') / 8 };
  }

  #target(die: Die): Die | undefined {
    const reference = /<0x([0-9a-f]+)>/.exec(die.attributes.get('type') ?? '');
    return reference === null ? undefined : this.#dies.get(reference[1] ?? '');
  }
}

/** Takes the readable value out of readelf's decorated attribute text. */
function cleanValue(form: string, raw: string): string {
  if (form === 'strp' || form === 'line_strp') return raw.replace(/^\(offset: 0x[0-9a-f]+\): /, '').trim();
  if (form === 'string') return raw.trim();
  return raw.replace(/\t\(.*$/, (comment) => (/signed|boolean|char/.test(comment) ? comment : '')).trim();
}

function scalarName(bytes: number, signed: boolean): string {
  if (![1, 2, 4, 8].includes(bytes)) throw new Error(`no scalar type of ${bytes} bytes`);
  return `${signed ? 'i' : 'u'}${bytes * 8}`;
}
