/** Topology Zoo numbers its nodes and names them in `label`; the label is the id people want, where it is unique. */

/** Ids for nodes with these keys and attributes; the label leaves the attributes when it becomes the id. */
export function zooNames(keys: readonly string[], attributes: readonly Map<string, string>[]): string[] {
  const numbered = keys.length > 0 && keys.every((key) => /^\d+$/.test(key));
  const zoo = attributes.some((each) => each.has('Internal') || each.has('Longitude') || each.has('Country'));
  if (!numbered || !zoo) return [...keys];
  const counts = new Map<string, number>();
  for (const each of attributes) {
    const label = each.get('label')?.trim() ?? '';
    counts.set(label, (counts.get(label) ?? 0) + 1);
  }
  return keys.map((key, at) => {
    const label = attributes[at]?.get('label')?.trim() ?? '';
    if (label === '') return key;
    attributes[at]?.delete('label');
    return counts.get(label) === 1 && !keys.includes(label) ? label : `${label} (${key})`;
  });
}
