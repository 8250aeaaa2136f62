/** What LLDP says is at the other end of an interface, from `lldpctl -f json0` of lldpd. */

export interface LldpNeighbour {
  device: string;
  /** System name of the neighbour, or the id of its chassis. */
  name: string;
  /** Its port: the interface's name when it is told, else what the neighbour calls it. */
  port: string;
  /** The port by its MAC address, which is what lldpd tells by default. */
  port_mac?: string | undefined;
  /** By which other things may know the neighbour: MAC addresses of chassis and port, addresses to manage it. */
  aliases: string[];
  /** Whether it is a bridge or a router; undefined when it does not say. */
  forwards?: boolean | undefined;
}

/** Names from elsewhere become ids of nodes, and two of them the id of a link: nothing invisible, no length without end. */
export function clean(name: string): string {
  return name
    .replace(/[\p{C}\p{Zl}\p{Zp}]/gu, '')
    .slice(0, 56)
    .trim();
}

/** What is at the end of any path of these names, through lists and objects: json0 nests both ways. */
function dig(value: unknown, path: readonly string[]): unknown[] {
  if (Array.isArray(value)) return value.flatMap((item) => dig(item, path));
  const [key, ...rest] = path;
  if (key === undefined) return [value];
  if (typeof value !== 'object' || value === null) return [];
  return dig((value as Record<string, unknown>)[key], rest);
}

function texts(value: unknown, ...path: string[]): string[] {
  return dig(value, path)
    .map((found) => (typeof found === 'string' ? clean(found) : ''))
    .filter(Boolean);
}

/** Values of `id` elements of this type, such as `mac`. */
const idsOf = (part: unknown, type: string): string[] =>
  dig(part, ['id']).flatMap((id) => (texts(id, 'type').includes(type) ? texts(id, 'value') : []));

function readNeighbour(item: unknown): LldpNeighbour[] {
  const [chassis, port] = [dig(item, ['chassis']), dig(item, ['port'])];
  const [device] = texts(item, 'name');
  const [name] = [...texts(chassis, 'name', 'value'), ...texts(chassis, 'id', 'value')];
  const [port_mac] = idsOf(port, 'mac').map((mac) => mac.toLowerCase());
  const [id, description] = [texts(port, 'id', 'value'), texts(port, 'descr', 'value')];
  const [far] = port_mac === undefined ? [...id, ...description] : [...description, ...id];
  if (device === undefined || name === undefined || far === undefined) return [];
  const capabilities = dig(chassis, ['capability']).filter((each) => texts(each, 'type').length > 0);
  const enabled = capabilities.flatMap((each) =>
    dig(each, ['enabled'])[0] === true ? texts(each, 'type') : [],
  );
  return [
    {
      device,
      name,
      port: far,
      port_mac,
      aliases: [
        ...idsOf(chassis, 'mac').map((mac) => mac.toLowerCase()),
        ...(port_mac === undefined ? [] : [port_mac]),
        ...texts(chassis, 'mgmt-ip', 'value'),
      ],
      forwards:
        enabled.length === 0 ? undefined : enabled.some((each) => /^(bridge|router|wlan)$/i.test(each)),
    },
  ];
}

/** Nothing where lldpd does not run or does not let the user ask. */
export function readLldp(text: string): LldpNeighbour[] {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return [];
  }
  return dig(value, ['lldp', 'interface']).flatMap(readNeighbour);
}
