/** Names for formats that allow fewer characters than an id may have. */

/**
 * Maps ids to names of letters, digits and `extra` characters, each unique: what is not allowed becomes `_`, and equal
 * results get a number. An id that is allowed already keeps its name.
 */
export function safeNames(ids: readonly string[], extra = '_'): Map<string, string> {
  const bad = new RegExp(`[^A-Za-z0-9${extra.replace(/[\\\]^-]/g, '\\$&')}]`, 'g');
  const clean = (id: string): string => id.replace(bad, '_').replace(/^(?![A-Za-z])/, 'n');
  const names = new Map<string, string>();
  // Ids that stay as they are go first, so that no other takes their name.
  const taken = new Set(ids.filter((id) => clean(id) === id));
  const next = new Map<string, number>();
  for (const id of ids) {
    const base = clean(id);
    let name = base;
    if (base !== id) {
      while (taken.has(name)) {
        const nth = (next.get(base) ?? 1) + 1;
        next.set(base, nth);
        name = `${base}_${nth}`;
      }
      taken.add(name);
    }
    names.set(id, name);
  }
  return names;
}
