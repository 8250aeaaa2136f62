/** The programs of the table, family by family, and what they need of the machine. */

import * as haproxy from './haproxy.ts';
import * as iperf3 from './iperf3.ts';
import * as languages from './languages.ts';
import * as memcached from './memcached.ts';
import * as nginx from './nginx.ts';
import * as pipes from './pipes.ts';
import * as postgres from './postgres.ts';
import * as redis from './redis.ts';
import type { Row } from './row.ts';
import * as transfer from './transfer.ts';

const families = [redis, nginx, memcached, postgres, iperf3, pipes, haproxy, transfer, languages];

export const ROWS: readonly Row[] = families.flatMap(({ ROWS }) => ROWS);
export const NEEDED: readonly string[] = [...new Set(families.flatMap(({ NEEDED }) => NEEDED))];
